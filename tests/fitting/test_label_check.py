"""Leaving structures out without fitting again, and the labels that are found by it."""

from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import NOISES, SMALL_TERMS, make_frames

import mlpot
from mlpot.fitting.batch import adapted_fit, fit_terms
from mlpot.fitting.label_check import groups_of, leave_out, suspicious_labels
from mlpot.fitting.task import FitTask, with_scales
from mlpot.models.evaluate import compare
from mlpot.models.report import FitReport, SuspiciousLabel
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import FitConfig
from mlpot.structures import all_labelled
from mlpot.uncertainty.calibration import UNCALIBRATED


def with_results(atoms, **changes):
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **{**atoms.calc.results, **changes})
    return copy


@pytest.fixture(scope="module")
def many():
    """Thirty structures of one element, none of them with far shorter distances than the others."""
    return make_frames(30, seed=42)


@pytest.fixture(scope="module")
def fitted():
    """Three frames of one family, then three of another, all with the same elements; a fit to them, and fits to others."""
    frames = sorted(make_frames(6, numbers=(6, 14), seed=1), key=lambda atoms: atoms.info["config_type"])
    for atoms in frames:
        atoms.numbers = frames[0].numbers
        atoms.calc = SinglePointCalculator(atoms, **atoms.calc.results)  # numbers of another element will do
    model = mlpot.fit(frames, FitConfig(terms=SMALL_TERMS, config_type_noise={"odd": {"energy_noise": 0.02}}, **NOISES))
    task = FitTask(all_labelled(frames), model.species, model.baseline, model.config)
    posterior = adapted_fit(task, model.terms)

    def to(others):
        return fit_terms(
            others, model.species, with_scales(model.terms, posterior.scales), model.baseline, model.config
        )

    return task, task.design(model.terms), posterior, to


def assert_predicted(found, model, structure):
    """Errors exactly, the deviation of the energy as well; those of forces and stress are drawn, and as large on the whole."""
    model = model.calibrated(UNCALIBRATED)
    expected, root = compare(model, structure, uncertainty=True), np.sqrt(structure.n_atoms)
    assert found.energy_per_atom == pytest.approx(expected.energy_per_atom, rel=1e-4)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-5)
    np.testing.assert_allclose(found.stress, expected.stress, atol=1e-7)
    variances = model.representatives.variances(find_pairs(structure.atoms, model.cutoff))
    noise = 0.02 if structure.config_type == "odd" else NOISES["energy_noise"]
    assert found.energy_std == pytest.approx(np.hypot(np.sqrt(variances.total), root * noise), rel=1e-4)
    stated = UNCALIBRATED.forces_std(found.forces_std, found.forces_discrepancy, structure.atoms.numbers)
    for own, other in ((stated, expected.forces_std), (found.stress_std, expected.stress_std)):
        assert np.sqrt(np.mean(own**2)) == pytest.approx(np.sqrt(np.mean(other**2)), rel=0.35)


@pytest.mark.slow
def test_it_equals_fits_without_the_structure_and_without_its_group(fitted, monkeypatch):
    task, design, posterior, to = fitted
    monkeypatch.setattr("mlpot.fitting.label_check.FEWEST_GROUPS", 2)
    structures = list(task.structures)
    assert [len(group) for group in groups_of(structures)] == [3, 3]
    found = leave_out(design, posterior, structures, task.progress, None)
    for k in (0, 4):
        assert_predicted(found[k].alone, to(structures[:k] + structures[k + 1 :]), structures[k])
    for part, others in ((slice(0, 3), structures[3:]), (slice(3, 6), structures[:3])):
        without = to(others)
        for own, structure in zip(found[part], structures[part], strict=True):
            assert_predicted(own.grouped, without, structure)
            assert own.alone.energy_per_atom != own.grouped.energy_per_atom


def test_groups_are_consecutive_frames_with_the_same_atoms(many, monkeypatch):
    structures = all_labelled(many[:24])
    assert [len(group) for group in groups_of(structures)] == [1] * 24  # families take turns
    same = [replace(s, config_type="one") for s in structures]
    assert [len(group) for group in groups_of(same)] == [3] * 8
    monkeypatch.setattr("mlpot.fitting.label_check.MOST_ROWS", 2 * same[0].n_rows)
    assert [len(group) for group in groups_of(same)] == [2] * 12
    assert [len(group) for group in groups_of(same[:5])] == [1] * 5
    assert [s for group in groups_of(same) for s in group] == same


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
