"""The public contract check of labellers: passed by every labeller there is, failed by faulty ones, each by its own check."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from conftest import FAULTY, faulty_parameters

import mlpot
from mlpot.errors import ConfigError
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.given import GivenLabeller
from mlpot.units import BOHR, HARTREE

EMT_LABELLER = CalculatorLabeller("ase.calculators.emt.EMT")
GIVEN = GivenLabeller("ase.calculators.emt:EMT", instance=EMT())


def crystal():
    return bulk("Cu", cubic=True)


def failed(labeller, atoms=None):
    return [check.name for check in mlpot.validate_labeller(labeller, crystal() if atoms is None else atoms) if not check.passed]


@pytest.mark.parametrize("labeller", [EMT_LABELLER, GIVEN, CalculatorLabeller(FAULTY, {"calculator": "ase.calculators.emt.EMT"})])
@pytest.mark.parametrize("pbc", [True, [True, True, False], False])
def test_labellers_of_emt_pass(labeller, pbc):
    atoms = crystal()
    atoms.pbc = pbc
    checks = mlpot.validate_labeller(labeller, atoms)
    assert [check for check in checks if not check.passed] == []
    assert any("stress" in check.name for check in checks) == bool(np.any(pbc))


def test_xtb_passes():
    pytest.importorskip("tblite", reason="tblite is not installed")
    assert failed(CalculatorLabeller("tblite.ase.TBLite", {"method": "GFN1-xTB", "verbosity": 0}), bulk("Si")) == []


@dataclass
class Spoiled:
    """EMT's labels, spoiled."""

    fault: str
    settings: dict = field(default_factory=lambda: {"calculator": "EMT"})
    modules: tuple = ()
    n_calls: int = 0

    def varied(self, changes):
        return replace(self, settings={"calculator": "another"} if self.fault == "settings" else self.settings)

    def check(self):
        if self.fault == "config":
            raise ConfigError("no such code")

    def label(self, atoms):
        self.n_calls += 1
        if self.fault == "raises" and not np.all(np.isfinite(atoms.positions)):
            raise ValueError("NaN")
        if self.fault == "accepts" and not np.all(np.isfinite(atoms.positions)):
            return EMT_LABELLER.label(crystal())
        label = EMT_LABELLER.label(atoms)
        if self.fault == "moves":
            atoms.positions[0] += 0.1
        noise = 0.1 * (self.n_calls - 1)
        changes = {
            "shape": {"forces": label.forces[:-1]},
            "nan": {"energy": np.nan},
            "units of forces": {"forces": label.forces / (HARTREE / BOHR)},
            "gradient": {"forces": -label.forces},
            "net force": {"forces": label.forces + np.array([0.0, 0.1, 0.0])},
            "sign of stress": {"stress": -label.stress},
            "units of stress": {"stress": label.stress * 160.2},
            "not over volume": {"stress": label.stress * atoms.get_volume()},
            "random energy": {"energy": label.energy + noise},
            "random forces": {"forces": label.forces + noise * np.array([[1], [-1], [0], [0]])},
        }
        return replace(label, **changes.get(self.fault, {}))


FORCES, STRESS = "forces are minus the gradient", "stress is the derivative by strain over the volume"
OWN_CHECK = {
    "moves": "does not change the atoms",
    "settings": "settings can be recorded and do not change",
    "units of forces": FORCES,
    "gradient": FORCES,
    "net force": "forces add up to zero",
    "sign of stress": STRESS,
    "units of stress": STRESS,
    "not over volume": STRESS,
    "random energy": "the energy can be repeated",
    "random forces": "the forces can be repeated",
    "raises": "failures are LabelErrors",
    "accepts": "failures are LabelErrors",
}


@pytest.mark.parametrize("fault", OWN_CHECK)
def test_each_fault_is_found_by_its_own_check(fault):
    found = failed(Spoiled(fault))
    also = {"random energy": {FORCES, STRESS}}.get(fault, set())  # derivatives of a random energy are random
    assert OWN_CHECK[fault] in found and set(found) <= {OWN_CHECK[fault], *also}


@pytest.mark.parametrize(("fault", "said"), [("shape", "forces has shape"), ("nan", "not finite")])
def test_what_is_no_label_ends_the_check(fault, said):
    (only,) = failed(Spoiled(fault))
    assert "right shapes" in only and said in only


def test_a_labeller_that_cannot_work_at_all():
    with pytest.raises(ConfigError, match="no such code"):
        mlpot.validate_labeller(Spoiled("config"), crystal())
    with pytest.raises(ConfigError, match="cannot be imported"):
        mlpot.validate_labeller(CalculatorLabeller("no_such_package.Code"), crystal())


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise", "self-consistency"), ("moved", "displaced by up to 0.1 A"), ("sorted", "displaced by up to"),
        ("net force", "net force"), ("wrong", FORCES),
    ],
)
def test_faults_of_an_ase_calculator(tmp_path, fault, said):
    """Those that its labeller refuses come as the reason why there is no label."""
    labeller = CalculatorLabeller(FAULTY, {**faulty_parameters(tmp_path / "calls"), "always": fault})
    found = failed(labeller, bulk("Si", "fcc", a=3.6, cubic=True))
    assert len(found) == 1 and said in found[0]
