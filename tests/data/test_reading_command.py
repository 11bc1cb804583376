"""Data on the command line: keys in a configuration, the table before a fit, what is said and what is refused."""

import ase.io
import pytest
from ase.db import connect
from conftest import FIT_FILE, make_frames
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with labels under names of their own in train.xyz, which has energies and forces of ASE's names as well."""
    monkeypatch.chdir(tmp_path)
    frames = make_frames(4)
    for atoms in frames:
        atoms.info["my_energy"] = atoms.get_potential_energy() - 100.0
        atoms.arrays["my_forces"] = atoms.get_forces()
        atoms.calc = None
    ase.io.write("train.xyz", frames)
    (tmp_path / "fit.toml").write_text(FIT_FILE.format(n_sparse=10, model="model.h5").replace("[data]", KEYS))
    return tmp_path


KEYS = '[data]\nenergy_key = "my_energy"\nforces_key = "my_forces"'


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_fit_says_what_it_has_and_what_it_takes(work):
    result = run("fit", "fit.toml")
    assert result.exit_code == 0, result.output
    row = next(line for line in result.output.splitlines() if "train.xyz" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "train.xyz",
        "4",
        "4",
        "4",
        "0",
        "even 2, odd 2",
        "Si",
    ]
    assert "train.xyz: energy from 'my_energy' (4 of 4), forces from 'my_forces' (4 of 4)" in result.output
    model = mlpot.load_model("model.h5")
    assert model.report.n_energies == 4 and model.report.n_force_components == 4 * 32 * 3
    atoms = ase.io.read("train.xyz")
    assert model.predict(atoms).energy == pytest.approx(atoms.info["my_energy"], abs=0.1)


def test_evaluate_takes_keys(work):
    assert run("fit", "fit.toml").exit_code == 0
    result = run("evaluate", "model.h5", "train.xyz@1:3", "--energy-key", "my_energy", "--forces-key", "my_forces")
    assert result.exit_code == 0, result.output
    assert "energy from 'my_energy' (2 of 2)" in result.output
    result = run("evaluate", "model.h5", "train.xyz")
    assert result.exit_code == 1 and "train.xyz[0]: no energy, forces or stress attached" in result.output


@pytest.mark.parametrize(
    "before, after, message",
    [
        (
            '"my_energy"',
            '"my_enrgy"',
            "energy_key = 'my_enrgy': no structure has such a key; did you mean 'my_energy'?",
        ),
        ("energy_key", "enrgy_key", "data.enrgy_key: unknown key; did you mean 'energy_key'?"),
        ("[output]", "[fit.config_type_noise.evn]\nenergy_noise = 0.1\n[output]", "did you mean 'even'?"),
    ],
)
def test_names_that_nothing_has_are_refused(work, before, after, message):
    (work / "fit.toml").write_text((work / "fit.toml").read_text().replace(before, after))
    result = run("fit", "fit.toml")
    assert result.exit_code == 2 and message in result.output
    assert not (work / "model.h5").exists()


def test_config_types_of_a_database_have_noises(work):
    with connect("train.db") as rows:
        for atoms in make_frames(4):
            rows.write(atoms, config_type="surface")
    text = FIT_FILE.format(n_sparse=10, model="model.h5").replace("train.xyz", "train.db")
    (work / "fit.toml").write_text(text + "[fit.config_type_noise.surface]\nenergy_noise = 0.1\n")
    result = run("fit", "fit.toml")
    assert result.exit_code == 0, result.output
    assert "train: surface" in result.output


def test_a_template_has_the_keys(work):
    text = run("template", "fit", "train.xyz").output
    assert all(f'# {kind}_key = "REF_{kind}"' in text for kind in ("energy", "forces", "stress", "virial"))
