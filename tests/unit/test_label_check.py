"""Leaving structures out without fitting again, and the labels that are found by it."""

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import NOISES, SMALL_TERMS, make_frames

import mlpot
from mlpot.models.fit import fit_terms
from mlpot.models.label_check import suspicious_labels
from mlpot.models.report import FitReport, SuspiciousLabel, compare
from mlpot.models.settings import FitConfig
from mlpot.models.task import FitTask
from mlpot.structures import all_labelled


def with_results(atoms, **changes):
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **{**atoms.calc.results, **changes})
    return copy


@pytest.fixture(scope="module")
def many():
    """Thirty structures of one element, none of them with far shorter distances than the others."""
    return make_frames(30, seed=24)


def test_it_equals_a_fit_without_the_structure(two_species_frames):
    from mlpot.models.label_check import leave_one_out

    config = FitConfig(terms=SMALL_TERMS, config_type_noise={"odd": {"energy_noise": 0.02}}, **NOISES)
    model = mlpot.fit(two_species_frames, config)
    structures = all_labelled(two_species_frames)
    task = FitTask(structures, model.species, model.baseline, model.config)
    posterior = task.posterior(task.evidence(model.terms), model.terms)
    found = leave_one_out(posterior, structures, lambda *_: None, None)
    for k in (0, 3):
        others = structures[:k] + structures[k + 1 :]
        without = fit_terms(others, model.species, model.terms, model.baseline, model.config)
        expected = compare(without, structures[k])
        assert found[k].energy_per_atom == pytest.approx(expected.energy_per_atom, rel=1e-5)
        np.testing.assert_allclose(found[k].forces, expected.forces, atol=1e-6)
        np.testing.assert_allclose(found[k].stress, expected.stress, atol=1e-8)


def test_clean_labels_raise_no_suspicion(many):
    report = mlpot.fit(many, FitConfig(terms=SMALL_TERMS)).report
    assert report.suspicious == []
    assert set(report.left_out) == {"even", "odd"}
    train = report.residuals["even"].force_mae_ev_per_ang
    assert train < report.left_out["even"].force_mae_ev_per_ang < 3 * train


def test_wrong_labels_are_reported_by_index(many):
    """An energy that is off by 50 meV/atom, a force with the wrong sign."""
    frames = list(many)
    frames[4] = with_results(many[4], energy=many[4].get_potential_energy() + 0.05 * len(many[4]))
    forces = many[17].get_forces()
    worst = int(np.linalg.norm(forces, axis=1).argmax())
    forces[worst] *= -1
    frames[17] = with_results(many[17], forces=forces)
    frames[17].info["config_type"] = "odd"
    found = {(s.structure, s.label): s for s in mlpot.fit(frames, FitConfig(terms=SMALL_TERMS)).report.suspicious}
    assert {(4, "energy"), (17, "forces")} <= set(found)
    assert {structure for structure, _ in found} == {4, 17}
    assert found[4, "energy"].error == pytest.approx(0.05, rel=0.2)
    assert found[17, "forces"].atom == worst
    assert found[17, "forces"].config_type == "odd"


def test_a_stress_in_the_wrong_unit_is_reported(many):
    frames = [*many[:22], with_results(many[22], stress=160 * many[22].get_stress()), *many[23:]]
    found = mlpot.fit(frames, FitConfig(terms=SMALL_TERMS)).report.suspicious
    assert (found[0].structure, found[0].label) == (22, "stress")


def test_reports_travel_through_files(many, tmp_path):
    frames = [with_results(many[0], energy=0.0), *many[1:]]
    model = mlpot.fit(frames, FitConfig(terms=SMALL_TERMS))
    assert model.report.suspicious[0].structure == 0
    model.save(tmp_path / "model.h5")
    again = mlpot.load_model(tmp_path / "model.h5").report
    assert again == model.report
    assert isinstance(again.suspicious[0], SuspiciousLabel)
    older = {k: v for k, v in model.report.to_dict().items() if k not in ("left_out", "suspicious", "trials")}
    assert FitReport.from_dict(older).suspicious == []


def test_it_can_be_left_out_itself(many):
    report = mlpot.fit(many[:6], FitConfig(terms=SMALL_TERMS, check_labels=False)).report
    assert report.left_out == {}
    assert suspicious_labels([], {}) == []
