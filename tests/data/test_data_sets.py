"""[[data.sets]]: files whose labels have names of their own beside each other, and what is refused."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from conftest import FIT_FILE, make_frames
from learning_runs import LEARN
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.config import read_config
from mlpot.data.label_keys import LabelKeys
from mlpot.data.reading import read_labelled, read_sources
from mlpot.errors import ConfigError
from mlpot.settings.files import FitFile

SETS = """
[[data.sets]]
files = ["odd.xyz"]
energy_key = "e_of_mine"
config_type = "surface"
[[data.sets]]
files = "atom.xyz"
[[model.terms]]
"""


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def work(tmp_path, monkeypatch):
    """train.xyz with labels of ASE's names, odd.xyz with others, and an isolated atom."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    frames = make_frames(5)
    ase.io.write("train.xyz", frames[:3])
    for atoms in frames[3:]:
        atoms.info["e_of_mine"] = atoms.get_potential_energy()
        atoms.calc.results["energy"] = -1000.0
    ase.io.write("odd.xyz", frames[3:])
    (tmp_path / "atom.xyz").write_text("1\nenergy=-0.25 config_type=IsolatedAtom\nSi 0 0 0\n")
    text = FIT_FILE.format(n_sparse=10, model="m.h5").replace("[[model.terms]]", SETS, 1)
    (tmp_path / "fit.toml").write_text(text)
    return tmp_path


def test_files_of_different_kinds_are_one_data_set(work):
    result = run("fit", "fit.toml")
    assert result.exit_code == 0, result.output
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.output.splitlines() if "xyz " in line and "│" in line]
    assert [row[:3] for row in rows] == [["train.xyz", "3", "3"], ["odd.xyz", "2", "2"], ["atom.xyz", "1", "1"]]
    assert rows[1][5] == "surface 2" and rows[2][5] == "IsolatedAtom 1"
    assert "odd.xyz: energy from 'e_of_mine' (2 of 2)" in result.output
    model = mlpot.load_model("m.h5")
    assert model.report.n_energies == 6 and model.report.isolated_atom_energies == {14: -0.25}
    atoms = ase.io.read("odd.xyz")
    assert model.predict(atoms).energy == pytest.approx(atoms.info["e_of_mine"], abs=0.2)


def test_what_a_set_does_not_say_is_that_of_data(work):
    config = work / "c.toml"
    text = '[data]\ntrain = "train.xyz"\nenergy_key = "E"\nstress_key = "S"\n[output]\nmodel = "m.h5"\n'
    config.write_text(text + '[[data.sets]]\nfiles = "a"\nforces_key = "F"\n[[data.sets]]\nfiles = "b"\nvirial_key = "V"\n')
    sources = read_config(config, FitFile).data.sources()
    assert [source.keys for source in sources] == [
        LabelKeys(energy="E", stress="S"),
        LabelKeys(energy="E", forces="F", stress="S"),
        LabelKeys(energy="E", virial="V"),
    ]


def test_sets_alone_are_data_enough(work):
    config = work / "c.toml"
    config.write_text('[output]\nmodel = "m.h5"\n[[data.sets]]\nfiles = "train.xyz"\nconfig_type = "bulk"\n')
    frames = read_sources(read_config(config, FitFile).data.sources()).frames
    assert [atoms.info["config_type"] for atoms in frames] == ["bulk"] * 3
    assert [atoms.get_potential_energy() for atoms in frames] == pytest.approx(
        [atoms.get_potential_energy() for atoms in make_frames(3)]
    )


def test_isolated_atoms_keep_their_family(work):
    config = work / "c.toml"
    config.write_text('[output]\nmodel = "m.h5"\n[[data.sets]]\nfiles = ["odd.xyz", "atom.xyz"]\nconfig_type = "x"\n')
    frames = read_sources(read_config(config, FitFile).data.sources()).frames
    assert [atoms.info["config_type"] for atoms in frames] == ["x", "x", "IsolatedAtom"]


@pytest.mark.parametrize(
    "before, after, code, message",
    [
        ("e_of_mine", "e_of_min", 2, "data.sets[0]: energy_key = 'e_of_min': no structure has such a key; did you mean 'e_of_mine'?"),
        ("energy_key", "enrgy_key", 2, "data.sets[0].enrgy_key: unknown key; did you mean 'energy_key'?"),
        ("files = [", "file = [", 2, "data.sets[0].file: unknown key; did you mean 'files'?"),
        ('["odd.xyz"]', "[]", 2, "data.sets[0].files = []: names no file; name at least one"),
        ("odd.xyz", "odds.xyz", 1, "data.sets[0]: odds.xyz: no such file"),
        ('"atom.xyz"', '"./train.xyz@:1"', 2, "data.sets[1]: ./train.xyz[0] was named in data.train already; name it once"),
        ('"atom.xyz"', '"odd.xyz"', 2, "data.sets[1]: odd.xyz[0] was named in data.sets[0] already; name it once"),
        ('config_type = "surface"', 'config_type = ""', 2, "data.sets[0].config_type = ''"),
        ("[[data.sets]]", "[data.sets]", 2, "cannot"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_nothing_is_written(work, before, after, code, message):
    (work / "fit.toml").write_text((work / "fit.toml").read_text().replace(before, after))
    result = run("fit", "fit.toml")
    assert result.exit_code == code, result.output
    assert message.lower() in result.output.lower()
    assert not (work / "m.h5").exists()


def test_parts_of_one_file_may_be_different_sets(work):
    config = work / "c.toml"
    text = '[output]\nmodel = "m.h5"\n[[data.sets]]\nfiles = "train.xyz@:1"\nconfig_type = "a"\n'
    config.write_text(text + '[[data.sets]]\nfiles = "train.xyz@1:"\nconfig_type = "b"\n')
    frames = read_sources(read_config(config, FitFile).data.sources()).frames
    assert [atoms.info["config_type"] for atoms in frames] == ["a", "b", "b"]


@pytest.mark.parametrize("data", ['[[data.sets]]\nfiles = "train.xyz"\nconfig_type = "even"\n', '[data]\ntrain = "train.xyz"\n', ""])
def test_learning_refuses_families_that_nothing_has(work, data):
    start = make_frames(1, seed=4)[0]
    start.calc = None
    ase.io.write("start.xyz", start)
    noise = "[fit.config_type_noise.evn]\nenergy_noise = 0.1\n"
    (work / "learn.toml").write_text(LEARN.replace("CALLS", str(work / "calls")) + data + noise)
    result = run("learn", "learn.toml")
    assert result.exit_code == 2, result.output
    assert "config_type_noise.evn: no structure has this config_type" in result.output
    assert "did you mean 'even'?" in result.output or not data
    assert not (work / "run").exists() and not (work / "calls").exists()


@pytest.mark.slow
def test_learning_starts_from_sets(work):
    start = make_frames(1, seed=4)[0]
    start.calc = None
    ase.io.write("start.xyz", start)
    data = '[[data.sets]]\nfiles = "odd.xyz"\nenergy_key = "e_of_mine"\n'
    text = LEARN.replace("steps = 15", "steps = 1").replace("CALLS", str(work / "calls"))
    (work / "learn.toml").write_text(text + data)
    result = run("learn", "learn.toml")
    assert result.exit_code == 0, result.output
    kept = mlpot.read(work / "run" / "start_data.xyz")
    assert len(kept) == 2 and kept[0].get_potential_energy() == ase.io.read("odd.xyz@0").info["e_of_mine"]
    assert isinstance(kept[0], Atoms) and np.all(kept[0].pbc)


def test_python_errors_name_the_set():
    with pytest.raises(ConfigError, match=r"files: missing"):
        FitFile(data={"sets": [{"energy_key": "E"}]}, output={"model": "m.h5"})


@pytest.mark.parametrize("value", ['"odd.xyz"', '["odd.xyz"]', '{ files = "odd.xyz" }'])
def test_sets_that_are_no_tables(work, value):
    (work / "c.toml").write_text(f'[data]\nsets = {value}\n[output]\nmodel = "m.h5"\n')
    with pytest.raises(ConfigError, match=r"data\.sets.*must be tables: a line \[\[data.sets\]\], and files"):
        read_config(work / "c.toml", FitFile)


def test_what_was_taken_under_a_name_is_not_said_to_be_unused(work):
    frames = make_frames(2)
    for atoms in frames:
        atoms.info["mine"] = atoms.calc.results.pop("energy")
    ase.io.write("other.xyz", frames)
    data = read_labelled("other.xyz", LabelKeys(energy="mine"))
    assert data.notes == ["other.xyz: energy from 'mine' (2 of 2)"]
