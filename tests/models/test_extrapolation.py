"""Elements that no data had: an error, or a guess through the embedding that says how unsure it is."""

import pickle

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from finite_differences import position_gradient

import mlpot
from mlpot.descriptors.embedding import element_similarities, weights_of_unseen
from mlpot.descriptors.mixing import Mixing, make_reduction
from mlpot.descriptors.periodic import similarities
from mlpot.drivers.ipi_evaluator import ModelEvaluator
from mlpot.errors import ConfigError, UnknownSpeciesError

CU, PD, AG, PT, AU = 29, 46, 47, 78, 79
KNOWN = (CU, AG, AU)
MIX = {"mix": "both", "n_channels": 8, "embedding": "periodic", "symmetric": True}
ORDER = {"order": 3, "order_channels": 4, "order_l_max": 2}
SOAP = {"type": "soap", "n_max": 5, "l_max": 3, "cutoff": 4.0, "cutoff_width": 1.0, "n_sparse": 60, "zeta": 2, **MIX}
PAIR = {"type": "pair", "cutoff": 4.0, "n_sparse": 10}


def alloy(elements, seed):
    atoms = bulk("Ag", a=4.0, cubic=True) * (2, 2, 1)
    rng = np.random.default_rng(seed)
    atoms.numbers = rng.choice(elements, len(atoms))
    atoms.rattle(0.1, seed=seed)
    calculator = atoms.copy()
    calculator.calc = EMT()
    atoms.calc = SinglePointCalculator(atoms, energy=calculator.get_potential_energy(), forces=calculator.get_forces())
    return atoms


def fitted(order=ORDER, **settings):
    frames = [alloy(KNOWN, seed) for seed in range(12)]
    return mlpot.fit(frames, mlpot.FitConfig(terms=[PAIR, {**SOAP, **order}], check_labels=False, **settings))


@pytest.fixture(scope="module")
def model():
    return fitted(extrapolate=True)


@pytest.fixture(scope="module")
def with_palladium():
    return alloy((CU, PD, AG, AU), 100)


def test_without_being_asked_it_is_an_error(with_palladium):
    refusing = fitted()
    for predict in (refusing.predict, refusing.predict_directly, refusing.compile().predict):
        with pytest.raises(UnknownSpeciesError, match=r"'Cu', 'Ag', 'Au'.*'Pd'.*extrapolate = true"):
            predict(with_palladium)
    with pytest.raises(UnknownSpeciesError, match="extrapolate"):
        ModelEvaluator(refusing).check(with_palladium)


def test_known_elements_are_as_ever(model):
    atoms = alloy(KNOWN, 50)
    ours, exact = model.predict(atoms, True), fitted().predict(atoms, True)
    np.testing.assert_array_equal(ours.forces, exact.forces)
    np.testing.assert_array_equal(ours.forces_std, exact.forces_std)


def test_every_door_guesses_the_same(model, with_palladium, tmp_path):
    exact = model.predict_directly(with_palladium, True)
    model.save(tmp_path / "model.h5")
    loaded = mlpot.load_model(tmp_path / "model.h5")
    pickled = pickle.loads(pickle.dumps(model))
    for some in (model, loaded, pickled, model.compile(1e-9), loaded.compile(1e-9)):
        p = some.predict(with_palladium, True)
        np.testing.assert_allclose(p.energies, exact.energies, rtol=0, atol=1e-7)
        np.testing.assert_allclose(p.forces, exact.forces, rtol=0, atol=1e-6)
        np.testing.assert_allclose(p.energies_std, exact.energies_std, rtol=1e-3)
        np.testing.assert_allclose(p.forces_std, exact.forces_std, rtol=0.05)  # members in single precision
    atoms = with_palladium.copy()
    atoms.calc = mlpot.MlpotCalculator(loaded)
    np.testing.assert_allclose(atoms.get_forces(), exact.forces, rtol=0, atol=1e-6)
    atoms.get_stresses()
    known = alloy(KNOWN, 50)
    atoms.numbers[:] = known.numbers  # and back to what it knows
    np.testing.assert_allclose(atoms.get_forces(), model.predict(atoms).forces, rtol=0, atol=1e-9)
    [answer] = ModelEvaluator(loaded, "members").evaluate([with_palladium])
    np.testing.assert_allclose(answer.forces, exact.forces, rtol=0, atol=1e-6)


def test_forces_are_derivatives(model, with_palladium):
    exact = -position_gradient(lambda moved: model.predict(moved).energy, with_palladium)
    np.testing.assert_allclose(model.predict(with_palladium).forces, exact, atol=5e-5)


def test_the_guess_is_near_and_known_to_be_one(model):
    """Pd and Pt stand between elements that the data had: much better than no forces at all."""
    structures = [alloy((CU, PD, AG, PT, AU), seed) for seed in range(100, 104)]
    seen = [alloy(KNOWN, seed) for seed in range(50, 54)]
    errors = np.abs(np.concatenate([model.predict(a).forces - a.get_forces() for a in structures])).mean()
    assert errors < 0.4 * np.abs(np.concatenate([a.get_forces() for a in structures])).mean()
    novelty, usual = (np.mean([model.predict(a, True).novelty.mean() for a in some]) for some in (structures, seen))
    assert novelty > 4 * usual


def test_forces_of_an_unseen_element_are_as_uncertain_as_they_are_wrong(model):
    """Also on known elements beside it. How wrong it is follows from the known elements, each replaced by another one."""
    for elements in ((PD,), (CU, PD), (CU, AG, PT)):
        structures = [alloy(elements, seed) for seed in range(100, 104)]
        errors = np.concatenate([model.predict(atoms).forces - atoms.get_forces() for atoms in structures])
        stds = np.concatenate([model.predict(atoms, True).forces_std for atoms in structures])
        assert 0.4 < np.sqrt(np.mean(errors**2) / np.mean(stds**2)) < 1.5
        assert 0.5 < np.mean(np.abs(errors) < stds) < 0.95


def test_a_single_element_says_nothing_of_guesses():
    frames = [alloy((AG,), seed) for seed in range(3)]
    alone = mlpot.fit(frames, mlpot.FitConfig(terms=[PAIR, SOAP], check_labels=False, extrapolate=True))
    assert alone.noises.guess == 1.0 and fitted().noises.guess == 1.0


def test_centres_are_those_of_the_most_similar_element(model, with_palladium):
    guessing = model.covering(with_palladium.numbers)
    closest = KNOWN[similarities((PD,), KNOWN)[0].argmax()]
    assert guessing.stand_ins == {PD: closest} and guessing.species == (CU, PD, AG, AU)
    assert guessing.fitted_species == model.species == KNOWN
    energies = guessing.baseline.isolated_atom_energies
    assert energies[PD] == energies[closest]
    similarity, noises = similarities((PD,), KNOWN).max(), model.noises
    assert guessing.noises.forces[PD] == noises.forces[closest]
    not_shared = noises.guess * np.sqrt(1 - similarity**2) * noises.sizes[closest]
    floor = model.calibration.floors.get(closest, 0.0)
    assert not_shared > 0.05 and guessing.calibration.floors[PD] == pytest.approx(np.hypot(floor, not_shared))
    assert model.covering(with_palladium.numbers) is guessing
    more = guessing.covering(np.array([PT]))
    assert set(more.stand_ins) == {PD, PT} and PD not in more.stand_ins.values()


def test_energies_of_atoms_that_are_given_are_used():
    model = fitted(extrapolate=True, isolated_atom_energies={"Cu": -1.0, "Ag": -2.0, "Au": -3.0, "Pd": -7.0})
    assert model.covering(np.array([PD])).baseline.isolated_atom_energies[PD] == -7.0


def test_a_guess_cannot_be_saved(model, with_palladium, tmp_path):
    with pytest.raises(ConfigError, match="Pd"):
        model.covering(with_palladium.numbers).save(tmp_path / "model.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("terms", "match"),
    [
        ([{**SOAP, "embedding": "random"}], 'embedding = "random"; set mix'),
        ([{"type": "soap"}], 'mix = "none"'),
        ([{**SOAP, "mix": "radial", "embedding": "random"}], 'mix = "radial"'),
        ([{"type": "pair"}], "pair terms do not know which elements are similar"),
    ],
)
def test_models_that_cannot_guess_say_so(terms, match):
    with pytest.raises(ValueError, match=match):
        mlpot.FitConfig(terms=terms, extrapolate=True)


def test_presets_mix_elements_where_they_are_to_guess():
    for numbers in ((14,), (6, 14)):
        config = mlpot.settings.presets.resolve(mlpot.FitConfig(preset="fast", extrapolate=True), numbers)
        assert config.terms[1].mix == "both" and config.terms[1].embedding == "periodic"


def test_elements_whose_properties_nobody_knows(model):
    with pytest.raises(ConfigError, match="Bk"):
        model.covering(np.array([97]))


def test_weights_of_unseen_elements_continue_those_of_known_ones():
    """Against the embedding itself, made for all elements at once."""
    everything = tuple(range(21, 31))
    mixing = Mixing(mix="both", n_channels=200, coupling="element-wise", symmetric=True, embedding="periodic")
    weights = make_reduction(mixing, everything, 3).weights
    known = tuple(z for z in everything if z != 26)
    kept = [everything.index(z) for z in known]
    guess = weights_of_unseen(weights[:, kept], known, (26, 9))
    iron = weights[:, everything.index(26)]
    assert np.linalg.norm(guess[:, 0] - iron) < 0.2 * np.linalg.norm(iron)
    both = np.concatenate([weights[:, kept], guess], axis=1)
    alike = element_similarities(both)
    assert alike[-2, known.index(27)] > 0.9 and abs(alike[-1, :-2]).max() < alike[-2, :-2].min()
    np.testing.assert_allclose(np.mean(guess**2), np.mean(weights**2), rtol=0.2)
    alone = weights_of_unseen(weights[:, kept], known, (9,))
    np.testing.assert_allclose(alone[:, 0], guess[:, 1], atol=1e-12)
