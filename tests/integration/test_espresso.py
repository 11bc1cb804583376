"""Labels from Quantum ESPRESSO: forces and stress that are those of its energy, and an SCF that does not converge."""

import json
import re
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk

import mlpot
from mlpot.config import learning_run, read_config
from mlpot.errors import ConfigError, LabelError
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.espresso import espresso
from mlpot.labels.plan import LabellingPlan, labeller_of
from mlpot.labels.store import LabelStore
from mlpot.learning.run_folder import opened_source
from mlpot.settings.files import LearnFile

ROOT = Path(__file__).resolve().parents[2]
ESPRESSO = "mlpot.labellers.espresso:espresso"
PSEUDO = Path("/usr/share/espresso/pseudo")
DATA = {"ecutwfc": 12, "conv_thr": 1e-10}
PARAMETERS = {
    "pseudo_dir": str(PSEUDO),
    "pseudopotentials": {"Si": "Si.pz-vbc.UPF"},
    "kpts": [[0.25, 0.25, 0.25, 1.0], [0.25, 0.25, -0.25, 3.0]],
    "input_data": DATA,
}
needs_espresso = pytest.mark.skipif(
    shutil.which("pw.x") is None or not (PSEUDO / "Si.pz-vbc.UPF").exists(),
    reason="pw.x or its pseudopotentials are missing: apt-get install quantum-espresso quantum-espresso-data",
)


def silicon():
    atoms = bulk("Si")
    atoms.positions[1] += [0.1, -0.05, 0.08]
    return atoms


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@needs_espresso
def test_a_label_is_the_derivative_of_its_energy():
    labeller = CalculatorLabeller(ESPRESSO, PARAMETERS)
    labeller.check()
    label = labeller.label(silicon())
    step = 0.01
    ends = []
    for sign in (1, -1):
        atoms = silicon()
        atoms.positions[1, 0] += sign * step
        ends.append(labeller.label(atoms).energy)
    assert label.forces[1, 0] == pytest.approx((ends[1] - ends[0]) / (2 * step), abs=2e-3)
    assert np.abs(label.forces).max() > 0.1
    assert label.stress.shape == (3, 3)
    assert label.settings["code"].startswith("PWSCF v.")
    assert label.settings["parameters"] == PARAMETERS


@pytest.mark.slow
@needs_espresso
def test_it_passes_the_contract_check_of_labellers():
    parameters = {**PARAMETERS, "kpts": [2, 2, 2], "input_data": {**DATA, "ecutwfc": 25}}
    checks = mlpot.validate_labeller(CalculatorLabeller(ESPRESSO, parameters), bulk("Si"))
    assert [check for check in checks if not check.passed] == [] and "stress" in checks[-2].name


@pytest.mark.slow
@needs_espresso
def test_a_scf_that_does_not_converge_is_tried_with_other_parameters(tmp_path):
    impatient = {**PARAMETERS, "kpts": [2, 2, 2], "input_data": {**DATA, "electron_maxstep": 2}}
    plan = LabellingPlan(ESPRESSO, impatient, fallback={"input_data": {"electron_maxstep": 50}})
    with opened_source(plan, tmp_path / "run", resume=False) as (_, source):
        outcome = source.obtain(silicon())
        settings = source.store.rows()[0].data["settings"]
    assert outcome.atoms is not None
    assert settings["parameters"]["input_data"] == {**DATA, "electron_maxstep": 50}
    assert settings["parameters"]["kpts"] == [2, 2, 2]


@needs_espresso
@pytest.mark.parametrize("lenient", [False, True])
def test_forces_of_a_density_that_did_not_converge_are_no_label(tmp_path, lenient):
    """With scf_must_converge = false pw.x prints them, and says that it has converged."""
    data = {**DATA, "electron_maxstep": 2, "scf_must_converge": not lenient}
    plan = LabellingPlan(ESPRESSO, {**PARAMETERS, "input_data": data}, tries=1)
    with opened_source(plan, tmp_path / "run", resume=False) as (_, source):
        outcome = source.obtain(silicon())
    assert "pw.x: convergence NOT achieved" in outcome.failure
    record = json.loads((source.failed / f"{outcome.key}.json").read_text())
    (output,) = (source.failed / record["tries"][0]["files"]).rglob("espresso.pwo")
    assert "PWSCF" in output.read_text()


@needs_espresso
def test_an_error_of_the_code_is_told_in_its_words(tmp_path):
    wrong = {**PARAMETERS, "input_data": {**DATA, "occupations": "guessed"}}
    with pytest.raises(LabelError, match=r"pw\.x: .*occupations"):
        CalculatorLabeller(ESPRESSO, wrong).label(silicon())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kpts": None}, "kpts: missing"),
        ({"kpts": [2, 2]}, r"kpts = \[2, 2\]"),
        ({"kpts": [[0.0, 0.0, 0.0]]}, "kpts = "),
        ({"input_data": {}}, "ecutwfc: missing"),
        ({"input_data": {"CONTROL": {"calculation": "relax"}, "system": {"ecutwfc": 12}}}, "calculation = 'relax'"),
        ({"command": "no-such-pw.x"}, "no-such-pw.x"),
        ({"pseudo_dir": "pseudo"}, "absolute"),
        ({"pseudopotentials": {"Si": "Si.none.UPF"}}, "Si.none.UPF"),
    ],
)
def test_parameters_that_cannot_be_right_name_the_key(tmp_path, changes, words):
    (tmp_path / "Si.pz-vbc.UPF").write_text("")
    parameters = {**PARAMETERS, "command": "true", "pseudo_dir": str(tmp_path), **changes}
    with pytest.raises(ConfigError, match=words):
        CalculatorLabeller(ESPRESSO, parameters).check()


@needs_espresso
@pytest.mark.slow
def test_silicon_is_learned_from_nothing(tmp_path, monkeypatch):
    """Real electronic structure: hundreds of steps, a handful of calculations, errors against fresh ones."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    text = (ROOT / "inputs" / "learn_si_qe.toml").read_text()
    assert "\nsteps = 600\n" in text
    text = text.replace("\nsteps = 600\n", "\nsteps = 200\n")
    text = text.replace('"runs/learn_si_qe"', f'"{tmp_path / "run"}"').replace('"inputs/', f'"{ROOT}/inputs/')
    (tmp_path / "run.toml").write_text(text)
    with learning_run(read_config(tmp_path / "run.toml", LearnFile), resume=False) as run:
        assert run.run() == "finished"
        labeller = labeller_of(run.campaign.plan)
    assert run.walkers[0].dynamics.step == 200
    assert len(LabelStore(tmp_path / "run")) <= 25
    frames = [atoms for atoms in ase.io.iread(tmp_path / "run" / "trajectory.xyz") if not atoms.info["labelled"]]
    model, errors, deviations = mlpot.load_model(tmp_path / "run" / "model.h5"), [], []
    for atoms in frames[2 :: len(frames) // 10]:
        prediction = model.predict(atoms, uncertainty=True)
        errors.append(prediction.forces - labeller.label(atoms).forces)
        deviations.append(prediction.forces_std)
    assert np.mean(np.abs(errors)) < 0.12
    # few structures, few labels: of the right size is all that can be asked for
    assert 0.25 < np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(deviations))) < 4


IRON = {
    "pseudo_dir": str(PSEUDO),
    "pseudopotentials": {"Fe": "Fe.pz-nd-rrkjus.UPF"},
    "kpts": [1, 1, 1],
    "koffset": [1, 1, 1],
    "input_data": {
        "ecutwfc": 20, "ecutrho": 120, "occupations": "smearing", "degauss": 0.03, "nspin": 2, "conv_thr": 1e-6,
        "mixing_beta": 0.3,
    },
}  # fmt: skip


def output_of(parameters, atoms, folder):
    """What pw.x printed, and the results."""
    folder.mkdir()
    atoms.calc = espresso(**parameters)
    atoms.calc.directory = folder
    atoms.get_potential_energy()
    return (folder / "espresso.pwo").read_text(), atoms.calc.results


@pytest.mark.slow
@needs_espresso
def test_spins_and_hubbard_parameters_reach_the_code(tmp_path):
    atoms = bulk("Fe", cubic=True)
    atoms.set_initial_magnetic_moments([2.0, 2.4])
    parameters = {**IRON, "input_data": {**IRON["input_data"], "lda_plus_u": True, "Hubbard_U(1)": 3.0}}
    text, results = output_of(parameters, atoms, tmp_path / "with_U")
    assert re.search(r"Starting magnetic structure[\s\S]*Fe +0\.250\s+Fe1 +0\.300", text)
    assert float(re.findall(r"total magnetization += +(\S+)", text)[-1]) > 2
    assert text.count("Hubbard energy") >= 1
    _, plain = output_of(IRON, atoms, tmp_path / "without_U")
    assert abs(plain["energy"] - results["energy"]) > 0.1


@needs_espresso
def test_dispersion_reaches_the_code(tmp_path):
    with_d2 = {**PARAMETERS, "input_data": {**DATA, "vdw_corr": "grimme-d2"}}
    text, results = output_of(with_d2, silicon(), tmp_path / "d2")
    _, plain = output_of(PARAMETERS, silicon(), tmp_path / "without")
    assert "Dispersion Correction" in text
    assert results["energy"] < plain["energy"] - 0.1


@pytest.mark.slow
@needs_espresso
def test_a_near_structure_starts_from_the_density_of_the_last(tmp_path):
    parameters = {**PARAMETERS, "density_dir": str(tmp_path / "densities")}
    strained, moved = silicon(), silicon()
    strained.set_cell(strained.cell * 1.01, scale_atoms=True)
    moved.positions[0] += 0.2
    texts = []
    for name, atoms in (("first", silicon()), ("strained", strained), ("moved", moved)):
        text, results = output_of(parameters, atoms, tmp_path / name)
        _, anew = output_of(PARAMETERS, atoms, tmp_path / f"{name}_anew")
        assert results["energy"] == pytest.approx(anew["energy"], abs=1e-5)
        texts.append(text)
    assert ["initial density is read from file" in text for text in texts] == [False, True, False]
    first = [float(re.search(r"estimated scf accuracy +< +(\S+)", text)[1]) for text in texts]
    assert first[1] < 0.1 * first[0]  # Ry, after the first iteration
    kept = [file.name for file in (tmp_path / "densities").rglob("*") if file.is_file()]
    assert kept.count("structure.json") == 3 and not [name for name in kept if name.startswith("wfc")]
