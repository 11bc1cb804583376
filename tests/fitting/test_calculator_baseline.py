"""A calculator beneath the fit: labels minus its results are learned, and every door adds them again (delta learning)."""

import pickle
import shutil

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from h5_edits import edited
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.drivers.ipi_evaluator import ModelEvaluator
from mlpot.errors import BaselineError, ConfigError, ModelFileError
from mlpot.learning.learner import Learner
from mlpot.settings.baseline import BaselineSettings
from mlpot.settings.files import LearnFile
from mlpot.structures import all_labelled
from mlpot.terms.calculator_baseline import CalculatorBaseline
from mlpot.units import HARTREE

LJ = {"calculator": "ase.calculators.lj.LennardJones", "parameters": {"sigma": 2.3, "epsilon": 0.3, "rc": 4.5, "smooth": True}}
TERMS = [{"type": "soap", "cutoff": 4.0, "n_max": 3, "l_max": 3, "n_sparse": 30, "zeta": 2}]


class Plain(Calculator):
    """Harmonic springs to the origin of a molecule's centre; for a model file that names a calculator of nobody's list."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012
    n_made = 0

    def __init__(self, strength=1.0):
        super().__init__()
        type(self).n_made += 1
        self.strength = strength

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        r = self.atoms.positions - self.atoms.positions.mean(axis=0)
        self.results = {"energy": 0.5 * self.strength * float((r**2).sum()), "forces": -self.strength * r}


PLAIN = {"calculator": f"{__name__}.Plain", "parameters": {"strength": 0.7}}


def labelled(atoms, calculator=None):
    atoms.calc = calculator or EMT()
    results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def copper(seed, size=2):
    atoms = bulk("Cu", cubic=True).repeat((size, 1, 1))
    atoms.rattle(0.12, seed=seed)
    strain = np.eye(3) + 0.03 * np.random.default_rng(seed).normal(size=(3, 3))
    atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
    return labelled(atoms)


FRAMES = [copper(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def model():
    return mlpot.fit(FRAMES, mlpot.FitConfig(terms=TERMS, baseline=LJ))


def beneath(atoms):
    """Lennard-Jones by itself: energy, forces, stress."""
    work = atoms.copy()
    work.calc = LennardJones(**LJ["parameters"])
    return work.get_potential_energy(), work.get_forces(), work.get_stress(voigt=False)


def test_the_fit_is_to_differences(model):
    """The same as a fit without a baseline to labels from which another program has subtracted it."""
    minus = []
    for atoms in FRAMES:
        energy, forces, stress = beneath(atoms)
        other = atoms.copy()
        results = atoms.calc.results
        stress = stress - np.array([[results["stress"][k] for k in row] for row in ([0, 5, 4], [5, 1, 3], [4, 3, 2])])
        other.calc = SinglePointCalculator(
            other, energy=results["energy"] - energy, forces=results["forces"] - forces, stress=-stress
        )
        minus.append(other)
    plain = mlpot.fit(minus, mlpot.FitConfig(terms=TERMS))
    unseen = copper(99)
    energy, forces, stress = beneath(unseen)
    p, q = model.predict(unseen, uncertainty=True), plain.predict(unseen, uncertainty=True)
    assert p.energy == pytest.approx(q.energy + energy, abs=1e-7) and abs(energy) > 1
    np.testing.assert_allclose(p.forces, q.forces + forces, atol=1e-6)
    np.testing.assert_allclose(p.stress, q.stress + stress, atol=1e-7)
    np.testing.assert_allclose(p.forces_std, q.forces_std, rtol=1e-4)
    assert p.energies.sum() == pytest.approx(p.energy)
    directly = model.predict_directly(unseen)
    np.testing.assert_allclose(directly.forces, p.forces, atol=1e-5)
    assert model.beneath.n_calculations >= len(FRAMES) and "LennardJones" in model.beneath.cost


def test_cost_and_progress():
    one = CalculatorBaseline(BaselineSettings(calculator="ase.calculators.emt.EMT"))
    assert one.cost.endswith("EMT: 0 calculations, 0 s, 0 ms each")
    one.n_calculations, one.seconds = 4, 2.0
    assert one.cost.endswith("EMT: 4 calculations, 2 s, 500 ms each")
    told = []
    one.differences(all_labelled(FRAMES[:2]), lambda *what: told.append(what))
    assert told == [("baseline", 1, 2), ("baseline", 2, 2)] and one.n_calculations == 6


def test_derivatives_of_the_sum(model):
    """Forces, stress and ASE's atomic stresses by finite differences through the ASE calculator."""
    atoms = copper(11)
    atoms.calc = mlpot.MlpotCalculator(model)
    forces, stress, step = atoms.get_forces(), atoms.get_stress(voigt=False), 1e-4

    def energy(change):
        other = atoms.copy()
        change(other)
        return model.predict(other).energy

    for atom, axis in ((0, 0), (3, 2)):
        def moved(other, by, atom=atom, axis=axis):
            other.positions[atom, axis] += by

        slope = (energy(lambda o: moved(o, step)) - energy(lambda o: moved(o, -step))) / (2 * step)
        assert forces[atom, axis] == pytest.approx(-slope, abs=2e-5)
    strain = np.zeros((3, 3))
    strain[0, 1] = strain[1, 0] = step / 2
    strain[2, 2] = step
    slope = sum(
        sign * energy(lambda o, sign=sign: o.set_cell(o.cell @ (np.eye(3) + sign * strain), scale_atoms=True)) for sign in (1, -1)
    ) / (2 * step)
    assert np.sum(stress * strain) / step == pytest.approx(slope / atoms.get_volume(), abs=2e-6)
    np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), atoms.get_stress(), atol=1e-10)


@pytest.mark.parametrize("committee", ["none", "std", "members"])
def test_beads_of_ipi_get_the_sum(model, committee):
    atoms = copper(13)
    p, answer = model.predict(atoms), ModelEvaluator(model, committee).evaluate([atoms])[0]
    assert answer.energy == pytest.approx(p.energy, abs=1e-9)
    np.testing.assert_allclose(answer.forces, p.forces, atol=1e-9)
    np.testing.assert_allclose(answer.virial, p.virial, atol=1e-8)
    if committee != "none":
        assert np.mean(answer.extras["committee_pot"]) * HARTREE == pytest.approx(p.energy, abs=1e-6)


def test_a_lone_atom_has_the_given_energy():
    """Given isolated-atom energies are the labeller's, not differences."""
    given = mlpot.FitConfig(terms=TERMS, baseline=LJ, isolated_atom_energies={"Cu": 3.51})
    lone = Atoms("Cu", cell=[20, 20, 20], pbc=True)
    assert mlpot.fit(FRAMES[:3], given).predict(lone).energy == pytest.approx(3.51, abs=1e-9)
    emt = mlpot.FitConfig(terms=TERMS, baseline={"calculator": "ase.calculators.emt.EMT"}, isolated_atom_energies={"Cu": -1.0})
    assert mlpot.fit(FRAMES[:3], emt).predict(lone).energy == pytest.approx(-1.0, abs=1e-9)


def test_a_fit_that_goes_on(tmp_path):
    """The same model bit for bit with a file in between, and without calculating the baseline of old structures again."""
    def begun():
        fit = mlpot.Fit(mlpot.FitConfig(terms=TERMS, baseline=LJ), [29])
        fit.update(FRAMES[:3], fit.propose(FRAMES[:3]))
        return fit

    through, stopped = begun(), begun()
    stopped.save(tmp_path / "fit.h5")
    again = mlpot.Fit.load(tmp_path / "fit.h5")
    for fit in (through, again):
        fit.update(FRAMES[3:5], fit.propose(FRAMES[3:5]))
    assert np.array_equal(through.model.weights, again.model.weights)
    assert again.beneath.n_calculations == 2 and through.beneath.n_calculations == 5
    p, q = through.model.predict(FRAMES[6]), again.model.predict(FRAMES[6])
    assert p.energy == q.energy and np.array_equal(p.forces, q.forces)
    assert again.structures[0].energy == FRAMES[0].calc.results["energy"], "structures keep their whole labels"
    with pytest.raises(ModelFileError, match="below_"):  # a file whose results are missing
        shutil.copy(tmp_path / "fit.h5", tmp_path / "less.h5")
        with edited(tmp_path / "less.h5") as h5:
            del h5["below_forces"]
        mlpot.Fit.load(tmp_path / "less.h5")


def test_files_pickles_and_exports(model, tmp_path):
    model.save(tmp_path / "model.h5")
    again = mlpot.load_model(tmp_path / "model.h5")
    unseen = copper(12)
    for other in (again, pickle.loads(pickle.dumps(model)), pickle.loads(pickle.dumps(model.compiled))):
        p, q = model.predict(unseen), other.predict(unseen)
        assert p.energy == pytest.approx(q.energy, abs=1e-9) and np.allclose(p.forces, q.forces, atol=1e-9)
    with pytest.raises(ConfigError, match=r"difference from ase.calculators.lj.LennardJones.*without \[baseline\]"):
        model.export_core(tmp_path / "model.mlpot")
    assert not (tmp_path / "model.mlpot").exists()
    from mlpot.neighbours import find_pairs

    with pytest.raises(ConfigError, match="pass atoms"):
        model.predict_pairs(find_pairs(unseen, model.cutoff), None)
    assert all(check.passed for check in mlpot.validate_model(again, labelled(bulk("Cu")))), "differences and their sum are smooth"


def test_a_file_runs_nothing_by_itself(tmp_path):
    """A calculator that only the file names is neither imported nor made, unless the user says so."""
    waters = []
    for seed in range(3):
        atoms = molecule("H2O")
        atoms.rattle(0.1, seed=seed)
        atoms.calc = Plain(2.0)
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        waters.append(atoms)
    model = mlpot.fit(waters, mlpot.FitConfig(terms=TERMS, baseline=PLAIN))
    file = tmp_path / "water.h5"
    model.save(file)
    Plain.n_made = 0
    for use in (mlpot.load_model, mlpot.MlpotCalculator):
        with pytest.raises(ModelFileError, match=r"Plain.*trust_baseline=True.*--trust-baseline"):
            use(file)
    said = CliRunner().invoke(app, ["evaluate", str(file), str(file)])
    assert said.exit_code == 1 and Plain.n_made == 0
    assert mlpot.load_model(file, trust_baseline=True).predict(waters[0]).energy == pytest.approx(model.predict(waters[0]).energy)
    assert Plain.n_made > 0
    from mlpot.models.files import inspect_model

    with pytest.raises(BaselineError, match="only if you trust"):
        inspect_model(file).predict(waters[0])


def test_only_plain_arguments_of_known_calculators_need_no_trust():
    known = BaselineSettings(**LJ)
    assert known.is_known and BaselineSettings(calculator="tblite.ase.TBLite", parameters={"method": "GFN1-xTB"}).is_known
    for other in (
        {"parameters": {"restart": "file"}},
        {"parameters": {"sigma": [1.0]}},
        {"calculator": "ase.calculators.lj:LennardJones"},
        {"calculator": "os.system"},
    ):
        assert not known.changed(**other).is_known


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"calculator": "no.such.Thing"}, ConfigError, "baseline.calculator = 'no.such.Thing': cannot be imported"),
        ({"calculator": "ase.calculators.emt.Emt"}, ConfigError, "cannot be imported"),
        ({"calculator": "ase.Atoms"}, ConfigError, "not an ASE calculator"),
        ({**PLAIN, "parameters": {"no_such": 1}}, ConfigError, "does not accept them"),
        ({"calculator": "ase.calculators.lj.LennardJones", "parameters": {"sigam": 2.0}}, ConfigError, "did you mean 'sigma'?"),
        (PLAIN, BaselineError, "has no stress, which a periodic structure needs"),
        ({"calculator": "tblite.ase.TBLite", "parameters": {"method": "GFN9", "verbosity": 0}}, BaselineError, "failed for Cu"),
    ],
)
def test_what_is_wrong_is_said(settings, error, said):
    with pytest.raises(error) as found:
        mlpot.fit(FRAMES[:2], mlpot.FitConfig(terms=TERMS, baseline=settings))
    assert said in str(found.value)


def test_settings_of_a_baseline():
    lammps = {"dynamics": {"engine": "lammps", "input": "in.lammps"}, "output": {"folder": "run"}}
    with pytest.raises(ConfigError, match="LAMMPS cannot call it"):
        LearnFile.checked(lammps | {"baseline": LJ}, "learn.toml")
    with pytest.raises(ConfigError, match="must be an import path"):
        BaselineSettings(calculator="os; print")
    with pytest.raises(ConfigError, match="only numbers, strings, lists and tables"):
        BaselineSettings(calculator="a.B", parameters={"x": object()})
    flat = CalculatorBaseline(BaselineSettings(**LJ))
    with pytest.raises(BaselineError, match="fewer than three cell vectors"):
        flat.results(Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.5]], cell=[3, 3, 0], pbc=[True, True, False]))


def test_virial_of_a_molecule():
    """Without a cell the virial follows from the forces: the derivative of the energy with respect to a strain."""
    atoms, one = Atoms("Cu3", positions=[[0, 0, 0], [2.3, 0.1, 0], [0.3, 2.5, 0.4]]), CalculatorBaseline(BaselineSettings(**LJ))
    virial, step = one.results(atoms).virial, 1e-5
    for a, b in ((0, 0), (0, 1), (1, 2)):
        def energy(by, a=a, b=b):
            other, strain = atoms.copy(), np.eye(3)
            strain[a, b] += by / 2
            strain[b, a] += by / 2
            other.positions = atoms.positions @ strain
            return one.results(other).energy

        assert virial[a, b] == pytest.approx(-(energy(step) - energy(-step)) / (2 * step), abs=1e-5)


def test_learning_and_resuming(tmp_path):
    """A script that is interrupted and goes on has the same model as one that is not."""
    atoms, labeller = bulk("Cu", cubic=True), EMT()
    labeller.cannot_be_pickled = lambda: None  # so labels are made in this process, in a tenth of the time
    config = mlpot.FitConfig(terms=TERMS, baseline=LJ)

    def script(folder, parts):
        for k, seeds in enumerate(parts):
            with mlpot.LearningCalculator(
                folder, labeller, config=config, threshold=1e-3, resume=k > 0, purpose="dynamics"
            ) as calculator:
                for seed in seeds:
                    work = atoms.copy()
                    work.rattle(0.1, seed=seed)
                    calculator.confirm(work)
                learner = calculator.learner
        return learner

    one, two = script(tmp_path / "one", [range(3)]), script(tmp_path / "two", [range(2), range(2, 3)])
    assert one.n_labels == two.n_labels == 3
    assert np.array_equal(one.fit.model.weights, two.fit.model.weights)
    saved = mlpot.load_model(tmp_path / "two" / "model.h5")
    assert saved.beneath == one.fit.beneath
    other = Learner(mlpot.FitConfig(terms=TERMS), (29,))
    with pytest.raises(ConfigError, match=r"learning.model has \[baseline\]"):
        other.begin(FRAMES[:2], [], saved)
