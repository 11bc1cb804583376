"""What a command cannot write, or must not overwrite, is one line before any work is done; so are wrong inputs of several kinds."""

import errno
import os
from pathlib import Path

import ase.io
import pytest
from conftest import make_frames
from typer.testing import CliRunner

import mlpot
from mlpot.commands import lammps
from mlpot.commands.main import app
from mlpot.durable import write_text
from mlpot.errors import ConfigError, DataError

COMMANDS = {
    "import-gap": (["import-gap", "a.xml"], "-o", "a.xml"),
    "import-snap": (["import-snap", "a.coeff", "a.param"], "-o", "a.param"),
    "report": (["report", "model.h5"], "-o", "model.h5"),
    "evaluate": (["evaluate", "model.h5", "data.xyz"], "--json", "data.xyz"),
    "compare": (["compare", "data.xyz"], "--json", "data.xyz"),
    "learning-curve": (["learning-curve", "data.xyz"], "--json", "data.xyz"),
    "features": (["features", "data.xyz", "--model", "model.h5"], "-o", "model.h5"),
    "criteria": (["criteria", "model.h5"], "--json", "model.h5"),
    "map": (["map", "data.xyz", "--model", "model.h5"], "-o", "data.xyz"),
    "distil": (["distil", "data.xyz", "--calculator", "ase.calculators.emt.EMT"], "-o", "data.xyz"),
}


def run(*words):
    """Exit code and all lines that were said."""
    done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    return done.exit_code, done.output.strip()


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.xml", "a.coeff", "a.param", "model.h5", "data.xyz"):
        (tmp_path / name).write_text("untouched")
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_is_read_is_not_overwritten(work, name):
    words, option, file = COMMANDS[name]
    code, said = run(*words, option, file)
    assert code == 2 and said.endswith(f"{file}: is a file that is read; choose another name")
    assert (work / file).read_text() == "untouched"


@pytest.mark.parametrize(("key", "file"), [("model", "a.xyz"), ("report", "test.xyz"), ("model", "fit.toml"), ("report", "./a.xyz")])
def test_a_fit_does_not_overwrite_its_data(tmp_path, monkeypatch, key, file):
    monkeypatch.chdir(tmp_path)
    for name in ("a.xyz", "test.xyz"):
        ase.io.write(name, make_frames(1))
    outputs = {"model": "m.h5", "report": "r.html", key: file}
    lines = ["[data]", 'train = "a.x*"', 'test = "test.xyz@0"', "[model]", 'preset = "fast"', "[output]"]
    (tmp_path / "fit.toml").write_text("\n".join([*lines, *(f'{k} = "{v}"' for k, v in outputs.items())]))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, said = run("fit", "fit.toml")
    assert code == 2 and said.endswith(f"fit.toml: output.{key} = {Path(file)}: is a file that is read; choose another name"), said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("text", "said"), [
    (b"\xef\xbb\xbf[output]\r\nmodel = 'm.h5'\r\n", "data.train: missing"),
    (b"# caf\xe9\n", "byte 5 is no text in UTF-8; save it in UTF-8"),
    (b"a = " + b"[" * 3000, "is not valid TOML"),
    (None, "cannot be read: No such file or directory; give the path of a TOML file"),
])  # fmt: skip
def test_configurations_of_other_editors(tmp_path, monkeypatch, text, said):
    """A byte-order mark and line ends of Windows are no mistake; other encodings are."""
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "fit.toml").write_bytes(text)
    code, output = run("fit", "fit.toml")
    assert code == 2 and said in output and output.startswith("mlpot: fit.toml: ") and "\n" not in output, output


@pytest.mark.parametrize("words", [("fit", "a.toml", "--workers", "-1"), ("template", "fitt", "a.xyz")])
def test_options_are_refused_in_our_words(work, words):
    code, said = run(*words)
    assert code == 2 and "nvalid value" in said and "Input should" not in said and "Value error" not in said


@pytest.mark.parametrize(
    "words",
    [
        ("import-gap", "a.xml", "-o", "no/m.h5"),
        ("import-snap", "a.coeff", "a.param", "-o", "no/m.h5"),
        ("export-lammps", "model.h5", "-o", "no/m.mlpot"),
        ("export", ".", "--format", "xyz", "-o", "no/labels.xyz"),
        ("report", "model.h5", "-o", "no/r.html"),
        ("bench", "--json", "no/rows.json"),
    ],
    ids=lambda words: words[0],
)
def test_a_folder_that_is_missing_is_noticed_at_once(work, words, monkeypatch):
    monkeypatch.setattr("mlpot.bench.run_benchmarks", lambda peers: pytest.fail("measured for nothing"))
    code, said = run(*words)
    assert code == 2 and said.endswith(f"{words[-1]}: its folder does not exist; create it") and "\n" not in said


def test_a_missing_folder_is_named_without_the_temporary_file(work):
    with pytest.raises(FileNotFoundError, match="its folder does not exist") as caught:
        write_text("no/file.txt", "text")
    assert caught.value.filename == "no/file.txt"


@pytest.mark.parametrize(
    "words", [("import-gap", "no.xml"), ("import-snap", "no.coeff", "a.param"), ("import-snap", "a.coeff", "no.param")]
)
def test_a_missing_potential_is_asked_for(work, words):
    (work / "a.param").write_text("rcutfac 4.7\ntwojmax 2\n")
    code, said = run(*words, "-o", "m.h5")
    assert code == 1 and "no." in said and "; give the path of a" in said and ", but" not in said
    assert not (work / "m.h5").exists()


def test_terms_without_terms(work):
    (work / "empty.toml").write_text("")
    (work / "data.toml").write_text('[data]\ntrain = "data.xyz"\n')
    assert run("criteria", "--terms", "empty.toml")[1].count("empty.toml: is empty, without [[model.terms]] or [model]") == 1
    assert run("criteria", "--terms", "data.toml")[1].count("data.toml: has data, but no [[model.terms]] or [model]") == 1


def test_elements_that_the_options_leave_out(work):
    from ase.io import write

    write("data.xyz", make_frames(2, seed=1), format="extxyz")
    (work / "terms.toml").write_text('[[model.terms]]\ntype = "soap"\nn_max = 2\nl_max = 1\ncutoff = 3.0\n')
    code, said = run("features", "data.xyz", "--terms", "terms.toml", "--elements", "Xe", "-o", "f.h5")
    assert code == 2 and "--elements Xe: the structures hold ['Si'] too; add them" in said


def test_options_of_tune_are_named(work):
    (work / "d.toml").write_text('[data]\ntrain = "data.xyz"\n')
    for words in (("--evaluations", "-3"), ("--workers", "0"), ("--budget", "30parsecs")):
        code, said = run("tune", "d.toml", *words)
        assert code == 2 and words[0].removeprefix("--") in said and "TuneSettings" not in said


def test_the_help_of_ipi_pes_is_whole():
    assert "ffdirect" in run("ipi-pes", "--help")[1]


def test_how_lammps_finds_the_plugin_depends_on_the_installation(tmp_path, monkeypatch):
    class Found:
        name = "mlpot"

    monkeypatch.setattr(lammps, "entry_points", lambda group: [Found])
    assert "by themselves" in lammps._how_it_is_loaded(tmp_path)
    monkeypatch.setattr(lammps, "entry_points", lambda group: [])
    assert f"LAMMPS_PLUGIN_PATH={tmp_path}" in lammps._how_it_is_loaded(tmp_path)


def test_one_structure_instead_of_a_list():
    atoms = make_frames(1, seed=1)[0]
    config = mlpot.FitConfig(preset="fast", cutoff=3.5)
    with pytest.raises(DataError, match="a single Atoms object"):
        mlpot.fit(atoms, config)
    with pytest.raises(DataError, match="a single Atoms object"):
        mlpot.Fit(config, species=[14]).update(atoms)


@pytest.mark.parametrize("species", [["H", "O"], [], [999]])
def test_species_of_describe(species):
    from ase.build import molecule

    with pytest.raises(ConfigError, match="must be atomic numbers"):
        mlpot.describe(molecule("H2O"), {"type": "soap", "n_max": 2, "l_max": 1}, species=species)


def test_a_start_for_ipi_is_whole_or_not_there(work, monkeypatch):
    """The disk is full when the second of its files is written."""
    def create(file, text):
        if file.name != "input.xml":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        file.write_text(text)

    monkeypatch.setattr("mlpot.durable.create_text", create)
    ase.io.write("si.xyz", make_frames(1)[0], format="extxyz")
    code, said = run("template", "ipi", "si.xyz", "-o", "start")
    assert code == 2 and "No space left" in said and list((work / "start").iterdir()) == []
