"""Hyper-parameters: the likelihood finds what the data were made with, cross-validation has the last word."""

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import NOISES, SMALL_TERMS, make_frames

import mlpot
from mlpot.errors import FitError
from mlpot.fitting.batch import fit_terms
from mlpot.fitting.design_matrix import Group
from mlpot.fitting.hyperparameters import Folds, TermHyperparameters, divided, most_likely
from mlpot.fitting.task import FitTask
from mlpot.settings.fit import FitConfig
from mlpot.structures import all_labelled


def noisy(frames, force_noise, seed=0):
    rng = np.random.default_rng(seed)
    for atoms in frames:
        forces = atoms.get_forces() + force_noise * rng.normal(size=(len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=forces)
    return frames


@pytest.fixture(scope="module")
def tuned():
    """A tuned model of data with a force noise of 0.3 eV/A, far more than the default thinks."""
    frames = noisy(make_frames(16, seed=7), 0.3)
    return frames, mlpot.fit(frames, FitConfig(terms=SMALL_TERMS, tune=True, check_labels=False))


def test_the_noise_of_the_data_is_found(tuned):
    _, model = tuned
    likely = next(t for t in model.report.trials if t["name"] == "likelihood")
    assert likely["noises"]["forces"] == pytest.approx(0.3, rel=0.1)
    assert model.config.force_noise > 0.1


def test_what_is_chosen_is_best_in_cross_validation_and_on_new_data(tuned):
    frames, model = tuned
    trials = [t for t in model.report.trials if "few" not in t["name"]]
    scores = [np.log(list(t["cross_validation_rmse"].values())).sum() for t in trials]
    assert scores[0] == min(scores)
    given = next(t for t in trials if t["name"] == "given")["cross_validation_rmse"]
    assert all(trials[0]["cross_validation_rmse"][label] <= 1.02 * given[label] for label in given)
    plain = mlpot.fit(frames, FitConfig(terms=SMALL_TERMS, check_labels=False))
    unseen = make_frames(5, seed=8)
    ours, theirs = (
        np.sqrt(np.mean([(m.predict(a).energy - a.get_potential_energy()) ** 2 for a in unseen]))
        for m in (model, plain)
    )
    assert ours < 0.5 * theirs


def test_the_configuration_says_what_was_found(tuned, tmp_path):
    """Fitting again with the configuration of the model gives the model."""
    frames, model = tuned
    assert not model.config.tune
    assert {t["zeta"] for t in model.report.trials} == {2.0, 3.0, 4.0, 6.0}
    assert model.terms[1].zeta == model.config.terms[1].zeta == model.report.trials[0]["zeta"]
    again = mlpot.fit(frames, model.config)
    np.testing.assert_allclose(again.predict(frames[0]).forces, model.predict(frames[0]).forces, atol=1e-5)
    model.save(tmp_path / "tuned.h5")
    assert mlpot.load_model(tmp_path / "tuned.h5").report.trials == model.report.trials


@pytest.mark.slow
def test_noises_that_nobody_gave_follow_the_data(frames):
    """Smooth labels without noise: better errors on new data. What was given stays, and noisy forces raise their noise."""
    unseen = make_frames(5, seed=8)

    def fitted(data, **noises):
        model = mlpot.fit(data, FitConfig(terms=SMALL_TERMS, check_labels=False, **noises))
        error = np.mean([np.abs(model.predict(a).forces - a.get_forces()).mean() for a in unseen])
        return model, error

    (free, free_error), (given, given_error) = fitted(frames), fitted(frames, **NOISES)
    assert given.report.noises == {"energy": 0.002, "forces": 0.05, "virial": 0.02}
    assert given.noises.forces == {14: 0.05} and 0.002 <= free.noises.forces[14] < 0.018
    assert free.report.force_noises == free.noises.forces and free.report.noises["forces"] == free.noises.forces[14]
    assert free_error < given_error
    noisy_model, _ = fitted(noisy(make_frames(16, seed=7), 0.3))
    assert noisy_model.noises.forces[14] == pytest.approx(0.3, rel=0.1)
    assert noisy_model.noises.energy <= noisy_model.config.energy_noise
    partly, _ = fitted(frames, force_noise=0.016)
    assert partly.noises.forces == {14: 0.016}


def test_noises_of_config_types_stay(frames):
    config = FitConfig(terms=SMALL_TERMS[1:], config_type_noise={"odd": {"force_noise": 0.7}}, check_labels=False)
    task_config = mlpot.fit(frames, config).config
    model = mlpot.fit(frames, task_config.model_copy(update={"tune": True}))
    assert model.config.config_type_noise["odd"].force_noise == 0.7
    assert model.config.force_noise != task_config.force_noise


def test_folds_have_every_family_and_no_structure_twice(frames):
    structures = all_labelled(frames)
    parts = divided(structures, np.random.default_rng(0))
    assert sorted(id(s) for part in parts for s in part) == sorted(map(id, structures))
    assert all({s.config_type for s in part} == {"even", "odd"} for part in parts)
    with pytest.raises(FitError, match="at least 4"):
        divided(structures[:3], np.random.default_rng(0))


def test_cross_validation_is_what_it_says(frames):
    """The error of a fold against a model that was fitted to the others."""
    model = mlpot.fit(frames, FitConfig(terms=SMALL_TERMS, check_labels=False, **NOISES))
    task = FitTask(all_labelled(frames), model.species, model.baseline, model.config)
    parts = divided(task.structures, np.random.default_rng(0))
    design = task.design(model.terms)
    folds = Folds.of(design.prior, (1, 1), [task.gathered(design, part) for part in parts], {})
    noises = {"energy": 0.002, "forces": 0.05, "virial": 0.02}
    given = TermHyperparameters(noises, tuple(max(t.energy_scales) for t in model.terms))
    errors = []
    for k, part in enumerate(parts):
        others = [s for n, p in enumerate(parts) if n != k for s in p]
        fitted = fit_terms(others, model.species, model.terms, model.baseline, model.config)
        errors += [fitted.predict(s.atoms).forces - s.forces for s in part]
    trial = folds.trial("given", given)
    assert trial.errors["forces"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-4)
    likely = most_likely(folds, given)
    values = [folds.posterior(folds.everything, p).log_likelihood[0] for p in (given, likely)]
    assert values[1] > values[0]
    assert Group("forces", "", 14) in folds.everything
