"""A descriptor of one's own through every door, and the checks of descriptors and terms."""

import json
import logging
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from conftest import FIT_FILE, SMALL_TERMS, make_frames
from learning_runs import CONFIG, do_run, plan, without_seconds
from radial_functions import CAUGHT_BY, PATH, RadialFunctions
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.descriptors.named import DESCRIPTORS
from mlpot.errors import ConfigError, DescriptorError, FitError, ModelFileError, UnknownSpeciesError
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import FitConfig, SoapTermSettings
from mlpot.term_checks import is_fitted
from mlpot.terms.environments import EnvironmentTerm
from mlpot.terms.kernels import make_kernel
from mlpot.terms.registry import TERM_TYPES, empty_term

OWN = {"type": PATH, "cutoff": 4.0, "n_radial": 5, "n_sparse": 30}
KERNELS = {
    "polynomial": {**OWN, "zeta": 2},
    "gaussian": {**OWN, "kernel": "gaussian", "length_scale": 0.8},
    "as they are": {**OWN, "zeta": 3, "standardise": False},
}
NOISES = {"energy_noise": 0.001, "force_noise": 0.02, "virial_noise": 0.01}


@pytest.fixture(scope="module")
def two_elements():
    return make_frames(4, numbers=(6, 14), seed=3)


@pytest.fixture(scope="module")
def own_model(two_elements):
    terms = [{**SMALL_TERMS[0], "n_sparse": 10}, KERNELS["polynomial"]]
    return mlpot.fit(two_elements, FitConfig(terms=terms, check_labels=False, **NOISES))


def all_passed(checks):
    failed = [f"{check.name}: {check.value:.1e} > {check.tolerance:.1e}" for check in checks if not check.passed]
    assert not failed, failed


def test_the_example_keeps_the_contract(two_elements):
    all_passed(mlpot.validate_descriptor(RadialFunctions((6, 14), 4.0), two_elements[0]))


@pytest.mark.parametrize("more", [{}, {"mix": "both", "n_channels": 4}, {"order": 3}], ids=str)
def test_soap_keeps_the_contract(two_elements, more):
    settings = SoapTermSettings(n_max=3, l_max=2, cutoff=3.5, **more)
    all_passed(mlpot.validate_descriptor(empty_term(settings, (6, 14), 1.0).descriptor, two_elements[0]))


@pytest.mark.parametrize("kind", CAUGHT_BY, ids=lambda kind: kind.__name__)
def test_what_breaks_the_contract_is_caught_by_its_own_check(kind, two_elements):
    checks = mlpot.validate_descriptor(kind((6, 14), 4.0, 6), two_elements[0])
    failed = [check.name for check in checks if not check.passed]
    assert CAUGHT_BY[kind] in failed
    passed = {name for other, name in CAUGHT_BY.items() if name not in failed}
    assert len(passed) >= (0 if len(checks) == 1 else 5)


def test_every_failure_has_a_check_of_its_own():
    assert len(set(CAUGHT_BY.values())) == len(CAUGHT_BY)


@pytest.mark.parametrize("settings", [*SMALL_TERMS, *KERNELS.values()], ids=lambda s: s["type"] + s.get("kernel", ""))
def test_terms_keep_the_contract(settings, two_elements):
    checks = mlpot.validate_term(settings, two_elements[:2])
    all_passed(checks)
    assert len(checks) == 19


def test_every_kind_of_term_is_checked(two_elements, three_body_term):
    """Those of settings above; what only imported models have, here."""
    assert {name for name, kind in TERM_TYPES.items() if kind.settings} == {"pair", "soap", "features"}
    assert not is_fitted(three_body_term)
    all_passed(mlpot.validate_term(three_body_term, two_elements))


@pytest.fixture
def three_body_term():
    points = np.array([[4.1, 0.2, 2.5], [5.0, 0.01, 3.4], [4.6, 0.3, 3.0]])
    kind = TERM_TYPES["three_body"].term
    return kind((6, 14), 14, (6, 14), 4.0, 1.0, np.array([1.0, 1.5, 0.8]), 0.4, points, np.array([0.9, 0.7, 1.0]))


def test_wrong_rows_of_a_term_are_caught(two_elements, monkeypatch):
    rows = EnvironmentTerm.add_rows

    def without_virial(self, pairs, energy, forces, virial):
        rows(self, pairs, energy, forces, None)

    monkeypatch.setattr(EnvironmentTerm, "add_rows", without_virial)
    failed = [check.name for check in mlpot.validate_term(KERNELS["gaussian"], two_elements[:1]) if not check.passed]
    assert failed == ["rows of virials are derivatives"]


def test_the_fast_rows_are_those_of_the_formulas(two_elements):
    """The compiled rows of a soap term against the generic ones on the same descriptor."""
    model = mlpot.fit(two_elements, FitConfig(terms=[{**SMALL_TERMS[1], "n_sparse": 6}], check_labels=False, **NOISES))
    term, pairs = model.terms[0], find_pairs(two_elements[0], model.cutoff)
    fast, slow = ([np.zeros((n, term.n_sparse)) for n in (1, 96, 9)] for _ in range(2))
    term.add_rows(pairs, fast[0][0], *fast[1:])
    EnvironmentTerm.add_rows(term, pairs, slow[0][0], *slow[1:])
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9 * np.abs(b).max())


@pytest.mark.parametrize("settings", KERNELS.values(), ids=KERNELS)
def test_compiled_with_its_ensemble_as_from_the_formulas(two_elements, settings):
    model = mlpot.fit(two_elements, FitConfig(terms=[settings], check_labels=False, **NOISES))
    atoms = make_frames(1, numbers=(6, 14), seed=8)[0]
    p, q = model.predict(atoms, uncertainty=True), model.predict_directly(atoms, uncertainty=True)
    for name in ("energy", "forces", "virial", "energies_std", "energy_std", "forces_std", "novelty"):
        np.testing.assert_allclose(getattr(p, name), getattr(q, name), rtol=1e-5, atol=1e-9)
    _, members = model.compiled.predict_members(find_pairs(atoms, model.cutoff), None)
    assert np.allclose(members.energies.mean(), p.energy) and members.forces.std(axis=0).max() > 0


def test_it_learns_what_its_features_see():
    """A pair potential is a linear function of enough radial functions."""
    terms = [{"type": PATH, "cutoff": 4.0, "n_radial": 14, "width": 0.3, "n_sparse": 100, "zeta": 1, "standardise": False}]
    model = mlpot.fit(make_frames(6, seed=2), FitConfig(terms=terms, check_labels=False, **NOISES))
    test = make_frames(2, seed=11)
    errors = [model.predict(atoms).forces - atoms.get_forces() for atoms in test]
    assert np.sqrt(np.mean(np.square(errors))) < 0.1 * np.sqrt(np.mean([a.get_forces() ** 2 for a in test]))


def test_files_and_pickles_keep_every_bit(own_model, two_elements, tmp_path):
    own_model.save(tmp_path / "m.h5")
    expected = own_model.predict(two_elements[0], uncertainty=True)
    for other in (mlpot.load_model(tmp_path / "m.h5"), pickle.loads(pickle.dumps(own_model))):
        found = other.predict(two_elements[0], uncertainty=True)
        for name in ("forces", "forces_std", "energies_std", "novelty"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert other.config == own_model.config


def test_a_file_cannot_make_it_extrapolate(own_model, tmp_path):
    """A configuration of other terms may; the terms themselves say nothing about which elements are alike."""
    for terms in ([{**SMALL_TERMS[1], "mix": "both", "n_channels": 4, "embedding": "periodic"}], own_model.config.terms):
        config = FitConfig(terms=terms, check_labels=False, **NOISES).model_copy(update={"extrapolate": True})
        replace(own_model, config=config).save(tmp_path / "m.h5")
        with pytest.raises(ModelFileError, match=r"no term mixes elements|does not know which elements are alike"):
            mlpot.load_model(tmp_path / "m.h5")


def test_a_model_whose_class_is_not_there(own_model, tmp_path, monkeypatch):
    own_model.save(tmp_path / "m.h5")
    run = subprocess.run(
        [sys.executable, "-c", f"import mlpot; mlpot.load_model({str(tmp_path / 'm.h5')!r})"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert "ModelFileError" in run.stderr and "m.h5: needs the descriptor 'own_descriptor:RadialFunctions'" in run.stderr
    assert "PYTHONPATH" in run.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"descriptor": "os:system"}, "derives from mlpot.Descriptor"),
        ({"descriptor": "../evil:Class"}, "plain names"),
        ({"descriptor": "mlpot.descriptors.protocol:Descriptor"}, "Descriptor"),
        ({"state": {"cutoff": 4.0, "n_radial": 6, "width": 0.5}}, "mean"),
        ({"state": {"cutoff": 4.0, "radius": 6}}, "radius"),
        ({"parameters": {"length_scale": 1.0}}, "do not belong to kernel"),
        ({"parameters": {"zeta": 1e6}}, "do not belong to kernel"),
    ],
    ids=str,
)
def test_files_that_were_edited(own_model, tmp_path, change, message):
    from h5_edits import edited

    own_model.save(tmp_path / "m.h5")
    with edited(tmp_path / "m.h5") as h5:
        header = json.loads(h5.attrs["header"])
        header["terms"][1] |= change
        h5.attrs["header"] = json.dumps(header)
    with pytest.raises(ModelFileError, match=message):
        mlpot.load_model(tmp_path / "m.h5")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"type": "nowhere:Class"}, "nowhere cannot be imported"),
        ({"type": "own_descriptor:Missing"}, "has no Missing"),
        ({"type": "own_descriptor:np"}, "derives from mlpot.Descriptor"),
        ({"type": "nonsense"}, "must be one of"),
        ({"widht": 1.0}, "widht: unknown key; did you mean 'width'"),
        ({"n_sprase": 1}, "n_sprase: unknown key; did you mean 'n_sparse'"),
        ({"parameters": {"cutoff": 3.0}}, "given twice"),
        ({"parameters": 3}, "table of keyword arguments"),
        ({"kernel": "gaussian", "zeta": 3.0}, "is for kernel"),
        ({"length_scale": 3.0}, "is for kernel"),
        ({"zeta": 2.5}, "whole number"),
    ],
    ids=str,
)
def test_settings_that_are_wrong(keys, message):
    with pytest.raises(ConfigError, match=message):
        FitConfig(terms=[{**OWN, **keys}])


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"cutoff": -1.0}, "cutoff = -1.0"), ({"n_radial": 0}, "n_features = 0"), ({"n_radial": "x"}, "n_features")],
    ids=str,
)
def test_arguments_that_a_descriptor_cannot_take(two_elements, keys, message):
    with pytest.raises(DescriptorError, match=message):
        mlpot.fit(two_elements, FitConfig(terms=[{**OWN, **keys}]))


def test_settings_are_values():
    """They compare, hash and survive JSON; a class stands for its path."""
    settings = FitConfig(terms=[{**OWN, "type": RadialFunctions}]).terms[0]
    assert settings == FitConfig(terms=[OWN]).terms[0] and hash(settings) == hash(FitConfig(terms=[OWN]).terms[0])
    assert type(settings).model_validate_json(settings.model_dump_json()) == settings
    assert settings.parameters == {"cutoff": 4.0, "n_radial": 5}


def test_extrapolation_is_refused():
    with pytest.raises(ConfigError, match="does not know which elements are alike"):
        FitConfig(terms=[OWN], extrapolate=True)
    with pytest.raises(ConfigError, match="leave kernel out"):
        FitConfig(terms=[{"type": "soap", "kernel": "gaussian"}])
    assert FitConfig(terms=[{"type": "soap", "kernel": "polynomial"}]).terms[0] == SoapTermSettings()


def test_features_that_need_data_say_so(two_elements):
    term = empty_term(FitConfig(terms=[OWN]).terms[0], (6, 14), 1.0)
    with pytest.raises(FitError, match="there is no data yet"):
        term.features.compute(find_pairs(two_elements[0], term.cutoff))


def test_lone_atoms_need_the_offset(two_elements):
    frames = [*two_elements, make_lone()]
    with pytest.raises(DescriptorError, match="all features of atom 2 are zero; set an offset"):
        empty_term(FitConfig(terms=[{**KERNELS["as they are"], "offset": 0}]).terms[0], (6, 14), 1.0).features.compute(
            find_pairs(Atoms("CSiC", [[0, 0, 0], [0, 0, 1.8], [0, 0, 60.0]]), 4.0)
        )
    with pytest.raises(DescriptorError, match="set an offset"):
        mlpot.fit(frames, FitConfig(terms=[{**KERNELS["as they are"], "offset": 0}]))
    mlpot.fit(frames, FitConfig(terms=[KERNELS["as they are"]], check_labels=False))


def make_lone():
    atoms = make_frames(1, numbers=(6,))[0]
    lone = Atoms("C")
    lone.calc = type(atoms.calc)(lone, energy=0.0, forces=np.zeros((1, 3)))
    return lone


def test_means_and_deviations_are_of_the_data(own_model, two_elements):
    unit = own_model.terms[1].unit
    raw = np.concatenate([unit.descriptor.compute(find_pairs(a, 4.0)) for a in two_elements])
    carbon = np.concatenate([a.numbers for a in two_elements]) == 6
    np.testing.assert_allclose(unit.standardiser.mean[0], raw[carbon].mean(axis=0))
    floor = 0.05 * np.sqrt(np.mean(raw[carbon] ** 2, axis=0))
    np.testing.assert_allclose(unit.standardiser.deviation[0], np.maximum(raw[carbon].std(axis=0), floor))
    standard = (raw[carbon] - unit.standardiser.mean[0]) / (unit.standardiser.deviation[0] * np.sqrt(raw.shape[1]))
    features = np.concatenate([standard, np.full((len(standard), 1), unit.offset)], axis=1)
    found = np.concatenate([unit.compute(find_pairs(a, 4.0)) for a in two_elements])[carbon]
    np.testing.assert_allclose(found, features / np.linalg.norm(features, axis=1, keepdims=True), atol=1e-12)


def test_describe_gives_the_features_of_the_definition(two_elements):
    atoms = two_elements[0]
    expected = RadialFunctions((1, 6, 14), 4.0).compute(find_pairs(atoms, 4.0))
    np.testing.assert_array_equal(mlpot.describe(atoms, {"type": PATH, "cutoff": 4.0}, species=[1, 6, 14]), expected)
    assert mlpot.describe(atoms, SMALL_TERMS[1]).shape[0] == len(atoms)
    for settings, message in (
        ({"type": "pair"}, "has no descriptor"),
        ({**OWN, "standardise": True}, "no data to take means from"),
        ({"type": "soap", "mix": "both", "n_channels": 3, "embedding": "learned"}, "no data to learn from"),
        ({"type": "soap", "n_sparse": {"C": 5}}, "n_sparse .*no entry for Si"),
    ):
        with pytest.raises(ConfigError, match=message):
            mlpot.describe(atoms, settings)
    with pytest.raises(UnknownSpeciesError):
        mlpot.describe(atoms, OWN, species=[6])


@pytest.mark.parametrize("kernel", [make_kernel("polynomial", zeta=3), make_kernel("gaussian", length_scale=0.6)], ids=str)
def test_kernels_of_overlaps(kernel):
    """Slopes against finite differences, 1 at s = 1, and the formula of the gaussian one in distances."""
    s, step = np.linspace(-0.9, 1, 20), 1e-6
    np.testing.assert_allclose(kernel.slope(s), (kernel.value(s + step) - kernel.value(s - step)) / (2 * step), rtol=1e-6, atol=1e-8)
    assert kernel.value(1.0) == 1.0
    assert make_kernel(kernel.name, **kernel.parameters) == kernel
    p = np.random.default_rng(0).normal(size=(2, 7))
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    squared = np.sum((p[0] - p[1]) ** 2)
    expected = np.exp(-squared / (2 * 0.6**2)) if kernel.name == "gaussian" else (1 - squared / 2) ** 3
    np.testing.assert_allclose(kernel.value(p[0] @ p[1]), expected)


def test_a_short_name_is_a_line_in_the_registry(two_elements, monkeypatch):
    monkeypatch.setitem(DESCRIPTORS, "radial", PATH)
    assert mlpot.describe(two_elements[0], {"type": "radial", "cutoff": 4.0}).shape == (32, 16)
    with pytest.raises(ConfigError, match=r"'chebyshev', .*'package.module:Class', 'pair', .*did you mean \"chebyshev\""):
        FitConfig(terms=[{"type": "chebishev"}])


def test_tuning_finds_its_exponent(two_elements):
    model = mlpot.fit(two_elements, FitConfig(terms=[{**OWN, "n_sparse": 10}], tune=True, check_labels=False))
    assert model.terms[0].exponent == model.config.terms[0].zeta and model.report.trials


def test_a_fit_that_goes_on_is_the_same_from_its_file(two_elements, tmp_path):
    """Means and deviations come from the first structures; the file keeps them, and the next update has the same bits."""
    config = FitConfig(terms=[KERNELS["gaussian"]], **NOISES)
    fit = mlpot.Fit(config, (6, 14))
    fit.update(two_elements[:2], fit.propose(two_elements[:2]))
    fit.save(tmp_path / "fit.h5")
    back = mlpot.Fit.load(tmp_path / "fit.h5")
    for each in (fit, back):
        each.update(two_elements[2:3], each.propose(two_elements[2:3]))
    found, expected = (each.model.predict(two_elements[3], uncertainty=True) for each in (back, fit))
    np.testing.assert_array_equal(found.forces, expected.forces)
    np.testing.assert_array_equal(found.forces_std, expected.forces_std)


@pytest.mark.slow
def test_a_learning_run_goes_on_bit_for_bit(tmp_path, caplog):
    config = CONFIG.model_copy(update={"terms": FitConfig(terms=[{**OWN, "n_sparse": 100}]).terms})
    do_run(tmp_path / "whole", tmp_path / "a", plan(30), config=config)
    do_run(tmp_path / "parts", tmp_path / "b", plan(30), config=config, stop_after=12)
    with caplog.at_level(logging.INFO):
        do_run(tmp_path / "parts", tmp_path / "b", plan(30), config=config, resume=True)
    assert without_seconds(tmp_path / "whole") == without_seconds(tmp_path / "parts")
    whole, parts = (mlpot.load_model(tmp_path / name / "model.h5") for name in ("whole", "parts"))
    np.testing.assert_array_equal(whole.weights, parts.weights)


def test_commands_take_it(two_elements, tmp_path, monkeypatch):
    import ase.io

    monkeypatch.chdir(tmp_path)
    ase.io.write("train.xyz", two_elements)
    keys = f'type = "{PATH}"\nparameters = {{ cutoff = 4.0, n_radial = 5 }}'
    text = FIT_FILE.format(n_sparse=20, model="m.h5").replace('type = "soap"\nn_max = 4\nl_max = 3\ncutoff = 4.0', keys)
    (tmp_path / "fit.toml").write_text(text)
    for command in (["fit", "fit.toml"], ["evaluate", "m.h5", "train.xyz", "--json", "e.json"], ["check", "m.h5"]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    (tmp_path / "fit.toml").write_text(text.replace("own_descriptor", "not_there"))
    result = CliRunner().invoke(app, ["fit", "fit.toml"])
    assert result.exit_code == 2
