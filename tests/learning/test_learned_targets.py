"""Learning runs with [[targets]]: labels keep dipoles, models learn them, a resumed run has the same; thresholds; what is refused."""

from itertools import pairwise

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write
from polar_molecule import CHARGES, PolarMolecule
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.data.target_labels import known_target, label_of
from mlpot.errors import ConfigError, LabelError
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labels.store import LabelStore
from mlpot.learning.learned_targets import TargetLearner, last_fit
from mlpot.learning.policy import Limits, limits_of
from mlpot.models.prediction import ExpectedErrors
from mlpot.settings.files import LearnFile
from mlpot.settings.learning import Rules
from mlpot.structures import write_exact_xyz

TERMS = [{"cutoff": 2.5, "n_max": 3, "l_max": 2, "n_invariants": 8}]
CONFIG = mlpot.FitConfig(preset="fast", targets=({"name": "dipole", "terms": TERMS},))
FILE = """
[structure]
file = "water.xyz"
[dynamics]
ensemble = "nvt"
temperature_K = 300
timestep_fs = 0.5
steps = 6
[labeller]
calculator = "polar_molecule.PolarMolecule"
[learning]
min_interval = 3
check_interval = 3
[model]
preset = "fast"
[[targets]]
name = "dipole"
terms = [{ cutoff = 2.5, n_max = 3, l_max = 2, n_invariants = 8 }]
[[targets]]
name = "polarizability"
unit = "A^3"
terms = [{ cutoff = 2.5, n_max = 3, l_max = 2, n_invariants = 8 }]
[output]
folder = "run"
interval = 1
"""


def water(seed=0, size=0.05):
    atoms = molecule("H2O")
    atoms.rattle(size, seed=seed)
    return atoms


def labeller():
    """A calculator that other processes could not import, so that labels are made in this one: no process need be started."""

    class Here(PolarMolecule):
        pass

    return Here()


def dipole(atoms):
    return np.array([CHARGES[z] for z in atoms.numbers]) @ atoms.positions


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("water.xyz", water())
    return tmp_path


def test_fits_are_made_at_numbers_of_labels_that_grow():
    assert [last_fit(n) for n in (0, 1, 9, 10, 11, 12, 13)] == [0, 1, 9, 10, 10, 12, 12]
    numbers = sorted({last_fit(n) for n in range(2000)})
    assert all(b <= max(1.2 * a, a + 1) for a, b in pairwise(numbers)) and len(numbers) < 45


def test_a_script_learns_dipoles_and_goes_on_where_it_was(tmp_path):
    with mlpot.LearningCalculator(tmp_path / "run", labeller(), config=CONFIG, threshold=0.5) as calculator:
        for seed in range(4):
            atoms = water(seed)
            atoms.calc = calculator
            atoms.get_forces()
            np.testing.assert_allclose(atoms.get_dipole_moment(), dipole(atoms), atol=0.1)
    labels = LabelStore(tmp_path / "run").frames()
    assert len(labels) >= 2
    for atoms in labels:
        np.testing.assert_allclose(atoms.calc.results["dipole"], dipole(atoms), atol=1e-12)
        assert atoms.calc.results["polarizability"].shape == (3, 3)  # whatever the labeller gives is kept
    file = (tmp_path / "run" / "model.h5").read_bytes()
    model, atoms = mlpot.load_model(tmp_path / "run" / "model.h5"), water(20)
    found = model.predict(atoms, uncertainty=True)
    np.testing.assert_allclose(found.dipole, dipole(atoms), atol=0.05)
    assert found.dipole_std.shape == (3,) and found.born_charges.shape == (3, 3, 3)
    with mlpot.LearningCalculator(tmp_path / "run", labeller(), config=CONFIG, resume=True) as calculator:
        calculator.prepare([1, 8])
    again = mlpot.load_model(tmp_path / "run" / "model.h5").predict(atoms, uncertainty=True)
    np.testing.assert_array_equal(found.dipole, again.dipole)
    np.testing.assert_array_equal(found.dipole_std, again.dipole_std)
    assert (tmp_path / "run" / "model.h5").stat().st_size == len(file)


def test_targets_depend_on_labels_and_their_order_alone():
    frames = [water(seed) for seed in range(12)]
    for atoms in frames:
        atoms.calc = PolarMolecule()
        atoms.get_forces()
    one, resumed = TargetLearner(CONFIG), TargetLearner(CONFIG)
    one.begin(frames[:2], [])
    for atoms in frames[2:]:
        one.learn(atoms)
    resumed.begin(frames[:2], frames[2:9])
    for atoms in frames[9:]:
        resumed.learn(atoms)
    for k in (0, 1):
        a, b = (learner.models["dipole"].predict(water(30), uncertainty=True) for learner in (one, resumed))
        np.testing.assert_array_equal(a.value, b.value)
        np.testing.assert_array_equal(a.std, b.std)
        if k == 0:
            resumed.learn(frames[0])
            assert resumed.is_behind  # an eleventh label is no reason for a fit
            resumed.complete()
            assert not resumed.is_behind
            one.learn(frames[0])
            one.complete()


def test_text_files_keep_what_a_label_has(tmp_path):
    atoms = water()
    atoms.calc = PolarMolecule()
    atoms.get_forces()
    write_exact_xyz(tmp_path / "a.xyz", [atoms], [{}])
    found = read(tmp_path / "a.xyz")
    np.testing.assert_array_equal(found.calc.results["dipole"], atoms.calc.results["dipole"])
    tensor = label_of(found, "polarizability", known_target("polarizability"), "A^3", "a.xyz")
    np.testing.assert_array_equal(tensor, atoms.calc.results["polarizability"])


def test_a_run_of_the_command_line(here):
    file = here / "learn.toml"
    file.write_text(FILE)
    done = CliRunner().invoke(app, ["learn", str(file)])
    assert done.exit_code == 0, done.output
    model, last = mlpot.load_model("run/model.h5"), read("run/trajectory.xyz")
    found = model.predict(last)
    np.testing.assert_allclose(found.dipole, dipole(last), atol=0.05)
    assert found.polarizability.shape == (3, 3)  # no property of ASE's, and learned like one
    done = CliRunner().invoke(app, ["spectrum", "run"])
    assert done.exit_code == 1 and "too short; give at least 128 frames" in " ".join(done.output.split())


def test_a_labeller_without_the_target():
    with pytest.raises(ConfigError, match=r"polar_molecule.Unpolar does not compute 'dipole'"):
        CalculatorLabeller("polar_molecule.Unpolar", wanted=("dipole",)).check()
    with pytest.raises(LabelError, match=r"polar_molecule.NoDipole gives no 'dipole'.*it gives polarizability"):
        CalculatorLabeller("polar_molecule.NoDipole", wanted=("dipole",)).label(water())


def test_labels_of_a_run_without_targets(tmp_path):
    class Changing(PolarMolecule):
        gives = False

        def calculate(self, *arguments, **more):
            super().calculate(*arguments, **more)
            if not self.gives:
                del self.results["dipole"]

    for config, gives in ((CONFIG.changed(targets=()), False), (CONFIG, True)):
        own = Changing()
        own.gives = gives
        atoms = water()
        with mlpot.LearningCalculator(tmp_path / "run", own, config=config, resume=gives) as atoms.calc:
            if not gives:
                atoms.get_forces()
                continue
            with pytest.raises(LabelError, match=r"no 'dipole'.*start in another folder"):
                atoms.get_forces()


def test_the_threshold_of_the_dipole(tmp_path):
    with pytest.raises(ConfigError, match="no dipole is learned"):
        LearnFile(structure={"file": "a.xyz"}, output={"folder": "b"}, learning={"threshold_dipole": 0.01})
    with pytest.raises(ConfigError, match="no dipole is learned"):
        mlpot.LearningCalculator(tmp_path / "run", labeller(), rules=Rules(threshold_dipole=0.01))
    limits = limits_of(Rules(threshold_dipole=0.01), 10, mlpot.learning.policy.Use())
    assert limits.worst(ExpectedErrors(0.001, 0.001, None, dipole=0.02)) == ("dipole", pytest.approx(2.0))
    assert Limits(1.0, 1.0).ratios(ExpectedErrors(0.5, 0.5, None, dipole=9.0)) == {"forces": 0.5, "energy": 0.5}


def test_labels_for_the_sake_of_the_dipole(tmp_path):
    lenient = Rules(threshold=50.0, target_energy=50.0, novelty=1e9, check_interval="off")
    said = []
    with mlpot.LearningCalculator(tmp_path / "run", labeller(), config=CONFIG, rules=lenient, observe=said.append) as calculator:
        for seed, limit in ((0, None), (1, None), (2, None), (2, 1e-4)):
            if calculator.learner is not None:
                calculator.learner.rules = lenient.changed(threshold=50.0, threshold_dipole=limit)
            calculator.reset()
            calculator.get_forces(water(seed, 0.02))
    decisions = [event.decision for event in said]
    assert [decision.action for decision in decisions[2:]] == ["go on", "label"]
    assert decisions[3].kind == "dipole" and decisions[3].why.startswith("expected dipole error")
