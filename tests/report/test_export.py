"""An export stands by itself: its labels are those of the run, bit for bit, and make the same model again."""

import hashlib
import json
import runpy
import shutil
import tomllib

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import FAULTY, LENNARD_JONES, make_frames
from learning_runs import CONFIG, STRICT, campaign, do_run, plan
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.errors import RunFolderError
from mlpot.labellers.protocol import Label, key_of
from mlpot.labels.store import LabelStore, read_rows
from mlpot.learning.run_environment import configurations, environments, keep_origin
from mlpot.report import export as export_module
from mlpot.report.export import export_run, export_xyz
from mlpot.structures import agrees, exact_xyz, labelled

pytestmark = pytest.mark.slow

RULES = STRICT.changed(target=0.003, soft_fraction=0.6, check_interval=15)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two walkers, whose queued labels are learned in another order than they were paid for."""
    home = tmp_path_factory.mktemp("export")
    plans = [plan(steps=40, seed=1), plan(steps=40, seed=2, ramp=(300.0, 900.0))]
    assert do_run(home / "run", home / "calls", plans, rules=RULES)[0] == "finished"
    return home / "run"


@pytest.fixture(scope="module")
def exported(run):
    target = run.parent / "exported"
    assert export_run(run, target).can_be_repeated
    return target


def repeat(folder, monkeypatch, capsys):
    """What reproduce.py of an export says and makes."""
    monkeypatch.chdir(folder)
    scope = runpy.run_path("reproduce.py", run_name="__main__")
    assert "weights agree" in capsys.readouterr().out
    return scope["again"]


@pytest.mark.slow
def test_labels_are_those_of_the_run(run, exported):
    frames = ase.io.read(exported / "labels.xyz", ":")
    rows = {row.label_key: row for row in read_rows(run)}
    assert [atoms.info["key"] for atoms in frames] == sorted(rows, key=lambda key: rows[key].model_version)
    for atoms in frames:
        row = rows[atoms.info["key"]]
        assert agrees(labelled(atoms), labelled(row.toatoms()))
        assert atoms.info["config_type"] == atoms.info["walker"] == row.walker
        assert [atoms.info["reason"], atoms.info["step"]] == [row.reason, row.walker_step]
        assert atoms.info["label_seconds"] == row.label_seconds and atoms.info["learned"]
        assert atoms.info["settings"] == row.data["settings"]
        assert atoms.info.get("force_error") == row.key_value_pairs.get("force_error")
    assert {atoms.info["reason"] for atoms in frames} >= {"no model", "uncertain", "check"}


def test_the_same_model_again(run, exported, monkeypatch, capsys):
    again = repeat(exported, monkeypatch, capsys)
    model = mlpot.load_model(run / "model.h5")
    np.testing.assert_allclose(again.weights, model.weights, rtol=0, atol=1e-8 * np.abs(model.weights).max())
    ours, theirs = (m.predict(make_frames(1)[0], uncertainty=True) for m in (again, model))
    np.testing.assert_allclose(ours.forces, theirs.forces, atol=1e-9)
    np.testing.assert_allclose(ours.forces_std, theirs.forces_std, rtol=1e-6)


def test_another_order_is_noticed(exported, tmp_path, monkeypatch):
    """The script fails when what it makes is not the model."""
    shutil.copytree(exported, tmp_path / "copy")
    frames = ase.io.read(exported / "labels.xyz", ":")
    (tmp_path / "copy" / "labels.xyz").write_text("".join(exact_xyz(a, a.info) for a in frames[:-1]))
    monkeypatch.chdir(tmp_path / "copy")
    with pytest.raises((SystemExit, ValueError)):
        runpy.run_path("reproduce.py", run_name="__main__")


def test_a_fit_from_scratch(run, exported, tmp_path, monkeypatch):
    """`mlpot fit fit.toml`: terms and noises of the run, predictions within its errors."""
    shutil.copytree(exported, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    result = CliRunner().invoke(app, ["fit", "fit.toml"])
    assert result.exit_code == 0, result.output
    fitted, model = mlpot.load_model("model_from_scratch.h5"), mlpot.load_model("model.h5")
    assert fitted.config.terms == model.config.terms
    for name in ("energy_noise", "force_noise", "virial_noise", "jitter", "isolated_atom_energies", "repulsion"):
        assert getattr(fitted.config, name) == getattr(model.config, name), name
    energies = [m.baseline.isolated_atom_energies[14] for m in (fitted, model)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-12)
    difference = [
        fitted.predict(a).forces - model.predict(a).forces for a in ase.io.read(run / "trajectory_w1.xyz", "::3")
    ]
    assert np.sqrt(np.mean(np.square(difference))) < 0.02


def test_readme_and_checksums(run, exported):
    text = (exported / "README.md").read_text()
    rows = read_rows(run)
    assert f"{len(rows)} labels" in text and FAULTY in text and "doi:10.1103/PhysRevLett.104.136403" in text
    for walker in ("w0", "w1"):
        line = next(line for line in text.splitlines() if line.startswith(f"| {walker} |"))
        assert line.endswith(f"| {sum(row.walker == walker for row in rows)} |")
    sums = dict(line.split("  ")[::-1] for line in (exported / "SHA256SUMS").read_text().splitlines())
    files = {file.name for file in exported.iterdir()}
    assert set(sums) == files - {"SHA256SUMS"}
    assert files >= {"labels.xyz", "model.h5", "fit.toml", "environment.json", "README.md", "reproduce.py"}
    for name, value in sums.items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == value
        assert name == "README.md" or f"{value}  {name}" in text
    versions = json.loads((exported / "environment.json").read_text())
    assert versions["run"] == [] and versions["export"]["mlpot"] == mlpot.__version__
    assert versions["export"]["packages"]["numpy"] == np.__version__


@pytest.mark.slow
def test_a_run_that_started_from_a_model_and_data(tmp_path, monkeypatch, capsys):
    """Families of the data keep their noises; labels have those of "default", whatever their walker is called."""
    frames = make_frames(4)
    frames[1].info["config_type"] = "w0"
    noises = {"even": {"force_noise": 0.1}, "default": {"energy_noise": 0.01}, "w0": {"force_noise": 0.2}}
    config = CONFIG.model_copy(update={"isolated_atom_energies": {"Si": 0.1}})
    config = type(config).model_validate({**config.model_dump(), "config_type_noise": noises, "tune": False})
    mlpot.fit(frames, config).save(tmp_path / "start.h5")
    with campaign(tmp_path / "other", tmp_path / "calls") as shared:
        labelling = shared.plan
    from mlpot.learning.calculator import LearningCalculator
    from mlpot.learning.policy import Rules

    with LearningCalculator(
        tmp_path / "run",
        frames=frames,
        start_model=tmp_path / "start.h5",
        labelling=labelling,
        rules=Rules(),
        threshold=1e-9,
    ) as calculator:
        for atoms in make_frames(3, seed=9):
            atoms.calc = calculator
            atoms.get_forces()
    assert export_run(tmp_path / "run", tmp_path / "out").can_be_repeated
    fit = tomllib.loads((tmp_path / "out" / "fit.toml").read_text())
    assert fit["data"]["train"] == ["start_data.xyz", "labels.xyz"]
    assert fit["fit"]["config_type_noise"] == {**noises, "script": noises["default"]}
    data = ase.io.read(tmp_path / "out" / "start_data.xyz", ":")
    assert [a.info["config_type"] for a in data] == ["even", "w0", "even", "odd"]
    assert all(agrees(labelled(a), labelled(b)) for a, b in zip(data, frames, strict=True))
    again = repeat(tmp_path / "out", monkeypatch, capsys)
    model = mlpot.load_model("model.h5")
    np.testing.assert_allclose(again.weights, model.weights, rtol=0, atol=1e-8 * np.abs(model.weights).max())


def test_a_walker_named_as_a_family_of_the_data(tmp_path):
    frames = make_frames(2)
    frames[0].info["config_type"] = "w0"
    from mlpot.labels.plan import LabellingPlan
    from mlpot.learning.campaign import Campaign

    with Campaign(
        tmp_path / "run", LabellingPlan(FAULTY, {"parameters": LENNARD_JONES}), config=CONFIG, frames=frames
    ) as shared:
        shared.prepare((14,), {})
        shared.settle(shared.ask(make_frames(1, seed=5)[0], None, "uncertain", "w0", 1))
    export_run(tmp_path / "run", tmp_path / "out")
    assert ase.io.read(tmp_path / "out" / "labels.xyz").info["config_type"] == "w0_walker"


def test_labels_that_were_paid_but_not_learned(run, tmp_path, monkeypatch, capsys):
    """They are exported, marked, and left out of the model; so are those that came after the model of a run going on."""
    from mlpot.labels.plan import labeller_of

    shutil.copytree(run, tmp_path / "run")
    with campaign(tmp_path / "other", tmp_path / "calls") as shared:
        labeller = labeller_of(shared.plan)
    atoms = make_frames(1, seed=11)[0]
    label = Label(atoms.get_potential_energy(), atoms.get_forces(), None, 1.5, labeller.settings)
    LabelStore(tmp_path / "run").add(key_of(labeller, atoms), atoms, label)
    assert export_run(tmp_path / "run", tmp_path / "out").can_be_repeated
    frames = ase.io.read(tmp_path / "out" / "labels.xyz", ":")
    assert [a.info["learned"] for a in frames] == [True] * (len(frames) - 1) + [False]
    assert frames[-1].info["reason"] == "not learned" and frames[-1].info["config_type"] == "-"
    store = LabelStore(tmp_path / "run")
    store.annotate(store.keys[-1], model_version=1000, reason="soft", walker="w1", walker_step=3)
    assert export_run(tmp_path / "run", tmp_path / "again").can_be_repeated
    assert not ase.io.read(tmp_path / "again" / "labels.xyz", -1).info["learned"]
    repeat(tmp_path / "again", monkeypatch, capsys)


def test_a_model_of_other_labels_is_told_apart(run, tmp_path, model):
    shutil.copytree(run, tmp_path / "run")
    model.save(tmp_path / "run" / "model.h5")
    assert not export_run(tmp_path / "run", tmp_path / "out").can_be_repeated
    assert not (tmp_path / "out" / "reproduce.py").exists()
    assert "not made of exactly these labels" in (tmp_path / "out" / "README.md").read_text()


def test_an_export_is_whole_or_not_there(run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "readme", full)
    with pytest.raises(RunFolderError, match="No space left"):
        export_run(run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(run, tmp_path):
    for nothing in (tmp_path / "missing", tmp_path):
        with pytest.raises(RunFolderError, match="holds no run"):
            export_run(nothing, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "state.json").write_text("{}")
    with pytest.raises(RunFolderError, match="no labels yet"):
        export_run(tmp_path / "empty", tmp_path / "out")
    shutil.copy(run / "labels.db", tmp_path / "empty" / "labels.db")
    with pytest.raises(RunFolderError, match=r"no model\.h5 yet"):
        export_run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(RunFolderError, match="not empty"):
        export_run(run, tmp_path / "empty")
    with pytest.raises(RunFolderError, match="not empty"):
        export_run(run, run / "log.csv")
    with pytest.raises(RunFolderError, match="cannot be written"):
        export_run(run, run / "log.csv" / "below")
    assert not (tmp_path / "out").exists()
    (tmp_path / "there").mkdir()
    export_run(run, tmp_path / "there")  # empty ones are welcome


def test_labels_alone(run, tmp_path):
    found = export_xyz(run, tmp_path / "labels.xyz")
    frames = ase.io.read(tmp_path / "labels.xyz", ":")
    assert found.n_labels == len(frames) == len(read_rows(run))
    with pytest.raises(RunFolderError, match="exists"):
        export_xyz(run, tmp_path / "labels.xyz")


def test_configurations_and_versions_are_kept(tmp_path):
    for text in ("a = 1\n", "a = 1\n", "a = 2\n", "a = 1\n"):
        keep_origin(tmp_path, text, "ase.calculators.lj.LennardJones")
    assert [file.name for file in configurations(tmp_path)] == ["config.toml", "config_2.toml", "config_3.toml"]
    assert [file.read_text() for file in configurations(tmp_path)] == ["a = 1\n", "a = 2\n", "a = 1\n"]
    (versions,) = environments(tmp_path)
    assert versions["calculators"]["ase.calculators.lj.LennardJones"] == {"name": "ase", "version": ase.__version__}
    keep_origin(tmp_path, "a = 1\n", "tblite.ase.TBLite")
    assert len(environments(tmp_path)) == 2


@pytest.mark.parametrize("stress", [True, False])
def test_exact_xyz(tmp_path, stress):
    """What ASE reads back is the same to the last bit, charges and partial periodicity included."""
    rng = np.random.default_rng(3)
    atoms = Atoms("Si2C", rng.normal(size=(3, 3)), cell=rng.normal(size=(3, 3)), pbc=[True, True, stress])
    atoms.set_initial_magnetic_moments(rng.normal(size=3))
    results = {"energy": rng.normal(), "forces": rng.normal(size=(3, 3))} | (
        {"stress": rng.normal(size=6)} if stress else {}
    )
    atoms.calc = SinglePointCalculator(atoms, **results)
    (tmp_path / "a.xyz").write_text(exact_xyz(atoms, {"config_type": "a b", "n": 3, "settings": {"k": [1, None]}}))
    found = ase.io.read(tmp_path / "a.xyz")
    assert agrees(labelled(found), labelled(atoms)) and found.pbc.tolist() == atoms.pbc.tolist()
    np.testing.assert_array_equal(found.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments())
    assert found.info["config_type"] == "a b" and found.info["settings"] == {"k": [1, None]}
