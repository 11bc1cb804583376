"""Embeddings of elements: from the periodic table, and learned from data."""

from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import NOISES, SMALL_TERMS, make_frames
from numpy.testing import assert_allclose, assert_array_equal

import mlpot
from mlpot.descriptors.embedding import element_map, element_similarities
from mlpot.descriptors.mixing import Mixing, make_reduction
from mlpot.descriptors.periodic import place_of
from mlpot.errors import ConfigError, FitError
from mlpot.fitting import mixing_sample
from mlpot.fitting.batch import make_baseline
from mlpot.fitting.incremental import Fit
from mlpot.fitting.learned_mixing import SharedMatrices, learn_mixing
from mlpot.fitting.mixed_features import MixedFeatures
from mlpot.fitting.mixing_loss import MixingLoss
from mlpot.fitting.mixing_sample import take_sample
from mlpot.fitting.task import FitTask
from mlpot.learning.learner import Learner
from mlpot.neighbours import find_pairs
from mlpot.settings.presets import resolve
from mlpot.structures import all_labelled
from mlpot.terms.layout import channels_of
from mlpot.terms.registry import empty_term
from mlpot.terms.soap_settings import make_descriptor

MIX = {"mix": "both", "n_channels": 8, "symmetric": True, "coupling": "element-wise"}
SOAP = {**SMALL_TERMS[1], "n_sparse": 30}
ALIKE, OTHER = (41, 73), 14
"""Elements of the made-up world: the first two are the same in all but name."""


def task_of(frames, **options):
    terms = [SMALL_TERMS[0], {**SOAP, **MIX, **options}]
    structures = all_labelled(frames)
    species = tuple(sorted({int(z) for s in structures for z in s.atoms.numbers}))
    config = resolve(mlpot.FitConfig(terms=terms, check_labels=False, **NOISES), species)
    return FitTask(structures, species, make_baseline(config, structures, species), config)


def others_of(task):
    pair = empty_term(task.config.terms[0], task.species, 1.3)
    return (pair.with_points(tuple(pair.new_points(task.structures, task.config.terms[0].model_copy(update={"n_sparse": 20})))),)


def learned(task, **options):
    descriptor = make_descriptor(task.config.terms[1], task.species)
    return learn_mixing(task, descriptor, 2.0, 1.0, others_of(task), **options)


def density_labels(atoms):
    """Energy 30 sum_i rho_i^2, rho_i = sum_j c_j exp(-r) (1 - (r/4)^2)^2, of charges c that the alike share, and forces.

    Many-body, so that pair terms do not suffice.
    """
    pairs = find_pairs(atoms, 4.0)
    r, charges = pairs.distances, np.where(pairs.numbers == OTHER, -0.8, 1.5)[pairs.j]
    step = 1 - (r / 4.0) ** 2
    densities = np.bincount(pairs.i, charges * np.exp(-r) * step**2, minlength=len(atoms))
    slopes = 60 * densities[pairs.i] * charges * np.exp(-r) * (-(step**2) - 4 * step * r / 16.0)
    gradients = (slopes / r)[:, None] * pairs.vectors
    return {"energy": 30 * np.sum(densities**2), "forces": pairs.forces(gradients)}


def make_world(n_frames, seed):
    """Structures of three elements, two of them alike."""
    frames = make_frames(n_frames, numbers=(*ALIKE, OTHER), seed=seed)
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, **density_labels(atoms))
    return frames


@pytest.fixture(scope="module")
def world():
    return make_world(40, 3)


@pytest.mark.parametrize("options", [{}, {"symmetric": False}, {"coupling": "full"}, {"mix": "species"}], ids=str)
def test_features_are_the_descriptors(two_species_frames, options):
    task = task_of(two_species_frames, **options)
    descriptor = make_descriptor(task.config.terms[1], task.species)
    pairs = find_pairs(two_species_frames[0], descriptor.cutoff)
    expansions = replace(descriptor, reduction=None).expand(pairs).transpose(1, 0, 2)[:, :, None]
    ours = MixedFeatures(descriptor.reduction, descriptor.basis.l_max).compute(expansions)[:, 0]
    assert_allclose(ours, descriptor.compute(pairs), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"symmetric": False}, {"coupling": "full"}, {"mix": "species"}], ids=str)
def test_gradient_against_finite_differences(options):
    frames = make_frames(10, numbers=(6, 14), seed=1)
    del frames[3].calc.results["forces"], frames[4].calc.results["energy"]
    task = task_of(frames, **options)
    descriptor = make_descriptor(task.config.terms[1], task.species)
    sample = take_sample(task, replace(descriptor, reduction=None), others_of(task), np.random.default_rng(0))
    doubled = (replace(own, chunks=tuple(chunk.astype(float) for chunk in own.chunks)) for own in sample.elements)
    loss = MixingLoss(replace(sample, elements=tuple(doubled)), descriptor.basis.l_max, 2.0, 1.5)
    shared = SharedMatrices(descriptor.reduction.weights)

    def at(x):
        return loss.evaluate(replace(descriptor.reduction, weights=shared.weights(x)))

    rng = np.random.default_rng(2)
    x = shared.alike(0.3) + 0.1 * rng.normal(size=shared.alike(0).shape)
    along, step = rng.normal(size=x.shape), 2e-4  # rounding of the normal equations shows in shorter ones
    numerical = sum(w * at(x + k * step * along)[0] for k, w in ((-2, 1), (-1, -8), (1, 8), (2, -1))) / (12 * step)
    assert shared.vjp(x, at(x)[1]) @ along == pytest.approx(numerical, rel=1e-4)


def test_atoms_without_any_density_do_no_harm():
    reduction = make_reduction(Mixing("both", 3, symmetric=True), (6, 14), 4)
    mixed, nothing = MixedFeatures(reduction, 3), np.zeros((8, 2, 3, 16), np.float32)
    assert_array_equal(mixed.compute(nothing), 0.0)
    assert_array_equal(mixed.vjp(nothing, np.full((2, 3, 6 * 4), 1e3)), 0.0)


@pytest.fixture(scope="module")
def silicon():
    """A task of ten structures of one element, the descriptor, and a sample."""
    task = task_of(make_frames(10, numbers=(14,), seed=5), n_channels=12)
    descriptor = make_descriptor(task.config.terms[1], task.species)
    return task, descriptor, take_sample(task, replace(descriptor, reduction=None), others_of(task), np.random.default_rng(0))


def test_slopes_are_derivatives_of_the_features(silicon):
    """The directions of a sample belong to its labels: a model that knows the energies knows the slopes."""
    _, descriptor, sample = silicon
    loss, _ = MixingLoss(sample, descriptor.basis.l_max, 2.0, 1.5).evaluate(descriptor.reduction)
    turned = replace(sample, labels=sample.labels * np.array([1, -1, -1, -1, -1, -1]))
    wrong, _ = MixingLoss(turned, descriptor.basis.l_max, 2.0, 1.5).evaluate(descriptor.reduction)
    assert loss < wrong - 1


def test_labels_of_a_sample_by_hand(silicon):
    """Energies above the free atoms, and slopes along unit vectors, over five times the noises of the fit."""
    task, _, sample = silicon
    (per_atom,) = task.baseline.isolated_atom_energies.values()
    energies = sorted((s.energy - s.n_atoms * per_atom) / (5 * NOISES["energy_noise"] * np.sqrt(s.n_atoms)) for s in task.structures)
    assert_allclose(np.sort(sample.labels[:, 0]), energies, rtol=1e-9, atol=1e-9)
    assert_allclose(sample.loads[:, 0], 1 / (5 * NOISES["energy_noise"] * np.sqrt(task.structures[0].n_atoms)))
    assert_allclose(sample.loads[:, 1:], 1 / (5 * NOISES["force_noise"]))
    squares = [np.mean(s.forces**2) for s in task.structures]  # of a component along a random unit vector
    assert np.mean(sample.labels[:, 1:] ** 2) == pytest.approx(np.mean(squares) / (5 * NOISES["force_noise"]) ** 2, rel=0.5)


def test_slopes_of_a_sample_are_forces(silicon, monkeypatch):
    """Along one coordinate of one atom in each direction."""
    task, descriptor, _ = silicon

    def one_coordinate(structure, n_directions, rng):
        found = np.zeros((n_directions, structure.n_atoms, 3))
        found[np.arange(n_directions), 2 * np.arange(n_directions), np.arange(n_directions) % 3] = 1.0
        return found

    monkeypatch.setattr(mixing_sample, "_directions", one_coordinate)
    sample = take_sample(task, replace(descriptor, reduction=None), others_of(task), np.random.default_rng(0))
    k = np.arange(5)
    expected = [-s.forces[2 * k, k % 3] / (5 * NOISES["force_noise"]) for s in task.structures]
    assert_allclose(np.sort(sample.labels[:, 1:], axis=0), np.sort(expected, axis=0), rtol=1e-9)


def test_environments_of_a_sample_are_those_of_its_element(two_species_frames):
    """Every atom of the element, by its structure."""
    structures = all_labelled(two_species_frames[:3])
    numbers = [s.atoms.numbers[None, :, None, None].astype(np.float32) for s in structures]
    for number in (6, 14):
        found = mixing_sample._element_sample(structures, numbers, number, np.random.default_rng(0))
        counts = [np.sum(s.atoms.numbers == number) for s in structures]
        assert_array_equal(np.bincount(found.structure, minlength=3), counts)
        assert_array_equal(np.concatenate(found.chunks, axis=1), np.full((1, sum(counts), 1, 1), number))


def test_every_step_is_told_with_its_loss(world):
    told = []
    task = replace(task_of(world[:12], embedding="learned"), progress=lambda *what: told.append(what))
    losses = learned(task, steps=2).losses
    assert len(losses) == 3 and losses[0] > losses[1] > losses[2]
    assert [what for what in told if what[0] == "mixing of channels"] == [("mixing of channels", k, 2) for k in (1, 2)]


@pytest.mark.slow
def test_alike_elements_get_the_same_weights(world):
    """Without being told by the periodic table: from independent weights."""
    task = task_of(world, embedding="learned", embedding_start="random")
    found = learned(task)
    start = element_similarities(make_descriptor(task.config.terms[1], task.species).weights)
    cosines = element_similarities(found.reduction.weights)
    silicon, niobium, tantalum = (task.species.index(z) for z in (OTHER, *ALIKE))
    assert start[niobium, tantalum] < 0.5
    assert cosines[niobium, tantalum] > 0.85
    assert max(cosines[silicon, niobium], cosines[silicon, tantalum]) < 0.3
    assert found.losses[-1] < found.losses[0] - 1.5


@pytest.mark.slow
def test_learned_beats_random_at_equal_channels(world):
    test = make_world(20, 4)
    errors = {}
    for embedding, options in {"random": {}, "learned": {"embedding_start": "random"}}.items():
        terms = [SMALL_TERMS[0], {**SOAP, **MIX, "embedding": embedding, **options}]
        model = mlpot.fit(world, mlpot.FitConfig(terms=terms, check_labels=False, **NOISES))
        errors[embedding] = np.mean([abs(model.predict(a).energy - a.calc.results["energy"]) for a in test])
    assert errors["learned"] < 0.5 * errors["random"]


@pytest.mark.slow
def test_learning_is_reproducible(world):
    task = task_of(world[:20], embedding="learned")
    first, second = (learned(task, steps=3) for _ in range(2))
    assert_array_equal(first.reduction.weights, second.reduction.weights)
    assert list(first.losses) == sorted(first.losses, reverse=True)


@pytest.mark.slow
def test_a_learned_model_is_saved_with_its_weights(world, tmp_path):
    options = {**MIX, "n_channels": 4, "embedding": "learned", "order": 3, "order_channels": 4}
    config = mlpot.FitConfig(terms=[{**SOAP, **options}], check_labels=False, **NOISES)
    model = mlpot.fit(world[:12], config)
    descriptor = model.terms[0].descriptor
    assert not np.allclose(descriptor.weights, make_descriptor(model.config.terms[0], model.species).weights)
    model.save(tmp_path / "model.h5")
    again = mlpot.load_model(tmp_path / "model.h5")
    assert again.terms[0].descriptor == descriptor
    assert not [check for check in mlpot.validate_model(model, world[0][:10]) if not check.passed]


def test_periodic_weights_are_similar_where_elements_are():
    species = (7, 41, 42, 73, 74)
    reduction = make_reduction(
        Mixing("both", 400, coupling="element-wise", symmetric=True, embedding="periodic"), species, 4
    )
    cosines = element_similarities(reduction.weights)
    nitrogen, niobium, molybdenum, tantalum, tungsten = range(5)
    assert cosines[niobium, tantalum] > cosines[niobium, tungsten] > cosines[niobium, nitrogen]
    assert cosines[molybdenum, tungsten] > cosines[molybdenum, tantalum]
    # their size is that of independent weights
    plain = make_reduction(Mixing("both", 400, coupling="element-wise", symmetric=True), species, 4)
    assert np.mean(reduction.weights**2) == pytest.approx(np.mean(plain.weights**2), rel=0.1)


def test_periodic_weights_are_seeded_and_independent_of_other_elements():
    def made(seed, species):
        mixing = Mixing("both", 5, coupling="element-wise", symmetric=True, mix_seed=seed, embedding="periodic")
        return make_reduction(mixing, species, 3)

    assert made(1, (6, 8, 14)) == made(1, (6, 8, 14)) != made(2, (6, 8, 14))
    assert_allclose(made(1, (6, 14)).weights, made(1, (6, 8, 14)).weights[:, [0, 2]])


def test_presets_of_many_elements_are_periodic_where_these_are_known():
    for species, embedding in (((41, 73), "random"), ((41, 42, 73), "periodic"), ((6, 8, 98), "random")):
        assert resolve(mlpot.FitConfig(), species).terms[1].embedding == embedding


@pytest.mark.parametrize(
    "number, place",
    [
        (1, (1, 1)),
        (2, (18, 1)),
        (6, (14, 2)),
        (19, (1, 4)),
        (22, (4, 4)),
        (41, (5, 5)),
        (58, (3, 6)),
        (74, (6, 6)),
        (92, (3, 7)),
    ],
)
def test_places_in_the_periodic_table(number, place):
    assert place_of(number) == place


def test_map_of_elements_keeps_distances():
    weights = np.random.default_rng(0).normal(size=(6, 4, 3))
    places, cosines = element_map(weights, 4), element_similarities(weights)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert_allclose(apart**2, 2 - 2 * cosines, atol=1e-12)
    assert element_map(weights[:, :1]).shape == (1, 2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"embedding": "learned"}, 'needs mixed elements, but mix = "none"'),
        ({"embedding": "periodic"}, 'mix = "none"; set mix to'),
        ({"embedding": "periodic", "mix": "radial", "n_channels": 3}, "needs mixed elements"),
        ({"embedding_start": "random", **MIX}, 'is for embedding = "learned"'),
        ({"embedding": "guessed", **MIX}, "embedding"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        mlpot.FitConfig(terms=[{**SOAP, **options}])


def test_growing_fits_say_that_they_cannot_learn():
    with pytest.raises(ConfigError, match='set embedding = "periodic"'):
        Fit(mlpot.FitConfig(terms=[{**SOAP, **MIX, "embedding": "learned"}]), (6, 14))


def test_too_few_structures_are_told(two_species_frames):
    config = mlpot.FitConfig(terms=[{**SOAP, **MIX, "embedding": "learned"}], check_labels=False)
    with pytest.raises(FitError, match="at least 8 structures"):
        mlpot.fit(two_species_frames, config)


def test_elements_beyond_the_table_are_told():
    with pytest.raises(ConfigError, match="Cf"):
        make_reduction(Mixing("species", 3, embedding="periodic"), (6, 98), 3)


@pytest.mark.slow
def test_a_growing_fit_goes_on_with_channels_that_were_learned(two_species_frames, tmp_path):
    """From a model, through a file, as a run that learns does."""
    keys = {"mix": "both", "n_channels": 4, "symmetric": True, "embedding": "learned", "order": 3}
    terms = [SMALL_TERMS[0], {**SMALL_TERMS[1], "n_sparse": 20, **keys}]
    frames = [*two_species_frames, *make_frames(4, numbers=(6, 14), seed=5)]
    model = mlpot.fit(frames, mlpot.FitConfig(terms=terms, check_labels=False))
    with pytest.raises(ConfigError, match=r"learning\.model"):
        mlpot.Fit(model.config, model.species)
    with pytest.raises(ConfigError, match=r"\[data\]"):
        Learner(model.config, model.species).begin([], [])
    learner = Learner(mlpot.FitConfig(preset="fast"), model.species)
    learner.begin(frames[:3], [], start=model)
    assert channels_of(learner.fit.terms) == channels_of(model.terms)
    learner.fit.save(tmp_path / "fit.h5")
    again = mlpot.Fit.load(tmp_path / "fit.h5")
    assert channels_of(again.terms) == channels_of(model.terms)
    atoms = frames[5]
    np.testing.assert_array_equal(again.model.predict(atoms).forces, learner.fit.model.predict(atoms).forces)
    on = Learner(mlpot.FitConfig(preset="fast"), model.species)
    on.begin(frames[:3], [], start=model, saved=again)
    assert on.fit is again
    same = Learner(model.config, model.species)
    same.begin(frames[:3], [], start=model)
    np.testing.assert_array_equal(same.fit.model.predict(atoms).forces, learner.fit.model.predict(atoms).forces)


@pytest.mark.slow
def test_a_learner_learns_channels_from_its_data(two_species_frames, tmp_path, monkeypatch):
    """Those of a fit to the same data; a later run finds them in what the earlier one has saved."""
    keys = {"mix": "both", "n_channels": 4, "symmetric": True, "embedding": "learned", "order": 3}
    config = mlpot.FitConfig(terms=[SMALL_TERMS[0], {**SMALL_TERMS[1], "n_sparse": 20, **keys}], check_labels=False)
    frames = [*two_species_frames, *make_frames(6, numbers=(6, 14), seed=5)]
    data, labels = frames[:-2], frames[-2:]
    live = Learner(config, (6, 14))
    live.begin(data, [])
    assert channels_of(live.fit.terms) == channels_of(mlpot.fit(data, config).terms)
    for atoms in labels:
        live.learn(atoms, None)
    live.fit.save(tmp_path / "fit.h5")
    replayed = Learner(config, (6, 14))
    replayed.begin(data, labels)
    monkeypatch.setattr("mlpot.learning.learner.learn_channels", lambda *_: pytest.fail("learned again"))
    resumed = Learner(config, (6, 14))
    resumed.begin(data, labels, saved=mlpot.Fit.load(tmp_path / "fit.h5"))
    for other in (replayed, resumed):
        forces = other.model.predict(frames[0]).forces
        np.testing.assert_array_equal(forces, live.model.predict(frames[0]).forces)
