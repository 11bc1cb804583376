"""Terms on symmetry functions, Chebyshev and Zernike descriptors through every door."""

import json
import pickle

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr
from conftest import FIT_FILE, SMALL_TERMS, make_frames
from h5_edits import edited
from learning_runs import CONFIG, do_run, plan, without_seconds
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.config import read_config
from mlpot.descriptors import ACSF, Chebyshev, Zernike
from mlpot.descriptors.named import DESCRIPTORS
from mlpot.errors import ConfigError, FitError, ModelFileError
from mlpot.fitting.surroundings import settled
from mlpot.keys.toml_text import toml_value
from mlpot.neighbours import find_pairs
from mlpot.settings.files import FitFile
from mlpot.settings.fit import FitConfig
from mlpot.terms.registry import empty_term

TABLE = [["G2", 0.3, 0.0], ["G2", 2.0, 2.0], ["G4", 0.05, 2, -1], ["G5", 0.1, 2, 1]]
INPUT = """
cutoff_type 2
symfunction_short Si 2 C 0.1 0.0 7.0
symfunction_short Si 2 Si 0.1 0.0 7.0
symfunction_short C 2 Si 0.05 2.0 7.0
symfunction_short C 9 Si Si 0.02 1.0 2.0 6.5
symfunction_short Si 3 Si C 0.02 -1.0 1.0 6.5
"""
TERMS = {
    "acsf": {"type": "acsf", "cutoff": 3.8, "functions": TABLE},
    "acsf chosen": {"type": "acsf", "cutoff": 3.8, "n_functions": 9, "weighted": True},
    "acsf amp": {"type": "acsf", "cutoff": 3.8, "functions": "amp", "cutoff_function": "poly2", "select": "cur"},
    "chebyshev": {"type": "chebyshev", "cutoff": 3.8, "radial_order": 5, "angular_order": 3, "angular_cutoff": 3.3},
    "zernike": {"type": "zernike", "cutoff": 3.8, "n_max": 3, "kernel": "gaussian"},
    "bispectrum": {"type": "bispectrum", "cutoff": 3.8, "two_j_max": 3, "radii": {"C": 0.4, "Si": 0.5}},
    "bispectrum chem": {"type": "bispectrum", "cutoff": 3.8, "two_j_max": 2, "chem": True},
    "mbtr": {"type": "mbtr", "cutoff": 3.8, "k2": {"n": 8, "sigma": 0.06}, "k3": {"n": 5, "sigma": 0.3}},
}
TERMS = {name: {"n_sparse": 12, **keys} for name, keys in TERMS.items()}
CHOSEN = TERMS["acsf chosen"]
NOISES = {"energy_noise": 0.001, "force_noise": 0.02, "virial_noise": 0.01}
each = pytest.mark.parametrize("keys", TERMS.values(), ids=TERMS)


@pytest.fixture(scope="module")
def two_elements():
    return make_frames(4, numbers=(6, 14), seed=3)


def small(numbers=(6, 14)):
    atoms = make_frames(1, numbers=numbers, seed=5)[0]
    return atoms[:9]


@pytest.fixture(scope="module")
def models(two_elements):
    """A model of each, fitted when first asked for."""
    found = {}

    def of(keys):
        name = json.dumps(keys)
        if name not in found:
            terms = [{**SMALL_TERMS[0], "n_sparse": 10}, keys]
            found[name] = mlpot.fit(two_elements[:3], FitConfig(terms=terms, check_labels=False, **NOISES))
        return found[name]

    return of


def all_passed(checks):
    failed = [f"{check.name}: {check.value:.1e} > {check.tolerance:.1e}" for check in checks if not check.passed]
    assert not failed, failed


def test_every_descriptor_with_a_name_is_tried():
    assert {keys["type"] for keys in TERMS.values()} == set(DESCRIPTORS) - {"features"}  # test_feature_model.py


@each
def test_descriptors_keep_the_contract(keys, two_elements):
    term = settled(empty_term(FitConfig(terms=[keys]).terms[0], (6, 14), 1.0), two_elements[:1])
    all_passed(mlpot.validate_descriptor(term.descriptor, small()))


@each
def test_terms_keep_the_contract(keys):
    checks = mlpot.validate_term(keys, [small()])
    all_passed(checks)
    assert len(checks) == 19


@each
def test_models_keep_the_contract(keys, models):
    all_passed(mlpot.validate_model(models(keys), small()))


@each
def test_compiled_with_its_ensemble_as_from_the_formulas(keys, models):
    model, atoms = models(keys), small()
    p, q = model.predict(atoms, uncertainty=True), model.predict_directly(atoms, uncertainty=True)
    for name in ("energy", "forces", "virial", "energies_std", "energy_std", "forces_std", "novelty"):
        # members are in single precision
        np.testing.assert_allclose(getattr(p, name), getattr(q, name), rtol=1e-4 if name.endswith("_std") else 1e-6, atol=1e-7)


@each
def test_files_and_pickles_keep_every_bit(keys, models, tmp_path):
    model, atoms = models(keys), small()
    model.save(tmp_path / "m.h5")
    expected = model.predict(atoms, uncertainty=True)
    for other in (mlpot.load_model(tmp_path / "m.h5"), pickle.loads(pickle.dumps(model))):
        found = other.predict(atoms, uncertainty=True)
        for name in ("forces", "forces_std", "energies_std", "novelty"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert other.config == model.config and other.terms[1].tables == model.terms[1].tables
    with edited(tmp_path / "m.h5") as h5:
        assert json.loads(h5.attrs["header"])["terms"][1]["descriptor"] == keys["type"], "no path that could move"


@each
def test_isolated_atoms_and_dimers(keys, models):
    model = models(keys)
    at_the_cutoff = 3.8 - 1e-5
    for atoms in (Atoms("Si"), *(Atoms("SiC", [[0, 0, 0], [0, 0, r]]) for r in (0.8, 1.9, at_the_cutoff))):
        p = model.predict(atoms, uncertainty=True)
        assert np.isfinite([p.energy, p.energy_std, *p.forces.ravel(), *p.forces_std.ravel()]).all()
    assert model.predict(Atoms("Si")).energy == pytest.approx(model.predict(Atoms("Si2", [[0, 0, 0], [0, 0, 9]])).energy / 2)


def test_straight_lines_and_near_atoms(models):
    """Angles of 0 and 180 degrees have no forces across the line; 0.1 A gives numbers."""
    for keys in TERMS.values():
        line = Atoms("SiCSi", positions=[[0, 0, 0], [0, 0, 1.8], [0, 0, 3.6]])
        forces = models(keys).predict(line).forces
        assert np.isfinite(forces).all() and np.abs(forces[:, :2]).max() < 1e-9 * max(1, np.abs(forces).max())
        assert np.isfinite(models(keys).terms[1].unit.compute(find_pairs(Atoms("SiC", [[0, 0, 0], [0.1, 0, 0]]), 3.8))).all()


@each
def test_a_fit_that_goes_on_is_the_same_from_its_file(keys, two_elements, tmp_path):
    """Features, means and deviations are chosen on the first structures; the file keeps them."""
    fit = mlpot.Fit(FitConfig(terms=[keys], **NOISES), (6, 14))
    fit.save(tmp_path / "empty.h5")
    assert not mlpot.Fit.load(tmp_path / "empty.h5").terms[0].is_settled
    fit.update(two_elements[:2], fit.propose(two_elements[:2]))
    fit.save(tmp_path / "fit.h5")
    back = mlpot.Fit.load(tmp_path / "fit.h5")
    assert back.terms[0].tables == fit.terms[0].tables
    for one in (fit, back):
        one.update(two_elements[2:3], one.propose(two_elements[2:3]))
    found, expected = (one.model.predict(two_elements[3], uncertainty=True) for one in (back, fit))
    np.testing.assert_array_equal(found.forces, expected.forces)
    np.testing.assert_array_equal(found.forces_std, expected.forces_std)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["acsf chosen", "chebyshev"])
def test_a_learning_run_goes_on_bit_for_bit(name, tmp_path):
    config = CONFIG.model_copy(update={"terms": FitConfig(terms=[SMALL_TERMS[0], {**TERMS[name], "n_sparse": 60}]).terms})
    do_run(tmp_path / "whole", tmp_path / "a", plan(8), config=config)
    do_run(tmp_path / "parts", tmp_path / "b", plan(8), config=config, stop_after=4)
    do_run(tmp_path / "parts", tmp_path / "b", plan(8), config=config, resume=True)
    assert without_seconds(tmp_path / "whole") == without_seconds(tmp_path / "parts")
    whole, parts = (mlpot.load_model(tmp_path / folder / "model.h5") for folder in ("whole", "parts"))
    np.testing.assert_array_equal(whole.weights, parts.weights)
    assert whole.terms[1].tables == parts.terms[1].tables


@each
def test_commands_take_it(keys, two_elements, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("train.xyz", two_elements[:3])
    lines = "\n".join(f"{key} = {toml_value(value)}" for key, value in keys.items() if key != "n_sparse")
    text = FIT_FILE.format(n_sparse=12, model="m.h5").replace('type = "soap"\nn_max = 4\nl_max = 3\ncutoff = 4.0', lines)
    (tmp_path / "fit.toml").write_text(text)
    for command in (["fit", "fit.toml"], ["evaluate", "m.h5", "train.xyz", "--json", "e.json"]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    assert read_config("fit.toml", FitFile).model.terms[1] == FitConfig(terms=[keys]).terms[0]
    (tmp_path / "fit.toml").write_text(text.replace("cutoff = 3.8", "cutof = 3.8"))
    result = CliRunner().invoke(app, ["fit", "fit.toml"])
    assert result.exit_code == 2 and "cutof: unknown key; did you mean 'cutoff'" in result.output


def test_describe_gives_the_numbers_of_the_definitions(two_elements):
    """dscribe's for the symmetry functions of water, aenet's and AMP's through their classes."""
    table = [["G1"], ["G2", 0.5, 1.0], ["G2", 2.0, 2.0], ["G3", 1.5], ["G4", 0.01, 2, 1], ["G4", 0.01, 2, -1], ["G5", 0.02, 4, 1]]
    water = molecule("H2O")
    found = mlpot.describe(water, {"type": "acsf", "cutoff": 4.0, "functions": table, "standardise": False})
    numbers = [1.7243472547, 1.7234955013, 0.2053852763, 0.2029134378, 0, 0, 0, 0, 0.1396084301, 0.3746868078, 0.0295572047, 0]
    np.testing.assert_allclose(found[0, :12], numbers, atol=6e-11)
    weights = {"type": "chebyshev", "cutoff": 4.0, "species_weights": {"O": 2.0, "H": -1.0}, "radial_order": 4}
    expected = Chebyshev((1, 8), 4.0, 4, 4, None, (-1.0, 2.0)).compute(find_pairs(water, 4.0))
    np.testing.assert_array_equal(mlpot.describe(water, weights), expected)
    expected = Zernike((1, 8), 6.5, 4).compute(find_pairs(water, 6.5))
    np.testing.assert_array_equal(mlpot.describe(water, {"type": "zernike", "cutoff": 6.5, "n_max": 4}), expected)
    assert expected[0, 0] == pytest.approx(0.85495604367, abs=1e-10)
    with pytest.raises(ConfigError, match='no data to choose features on; set select = "none"'):
        mlpot.describe(water, {"type": "acsf"})
    assert mlpot.describe(water, {"type": "acsf", "select": "none"}).shape == (3, 2 * 16 + 3 * 180)


def test_features_are_chosen_on_the_data(two_elements, models):
    """As many as asked for, others on other data, before any data an error."""
    term = empty_term(FitConfig(terms=[CHOSEN]).terms[0], (6, 14), 1.0)
    with pytest.raises(FitError, match="no data yet to choose features on"):
        term.features.compute(find_pairs(two_elements[0], term.cutoff))
    chosen = models(CHOSEN).terms[1].descriptor
    assert chosen.n_features == 9 and chosen.is_settled and ACSF((6, 14), 3.8, "auto", weighted=True).n_features == 16 + 180
    columns = {name: settled(_pool(select=name), two_elements[:2]).descriptor.columns for name in ("cur", "farthest")}
    assert columns["cur"] != columns["farthest"]
    assert settled(_pool(), two_elements[:2]).descriptor.columns == columns["cur"], "no chance in it"
    assert settled(_pool(), [small((14,))]).descriptor.columns != columns["cur"]


def _pool(**keys):
    return empty_term(FitConfig(terms=[{"type": "acsf", "cutoff": 3.8, "n_functions": 6, **keys}]).terms[0], (6, 14), 1.0)


def test_functions_of_a_file(two_elements, tmp_path, monkeypatch):
    """The file may change or go: settings have what was in it."""
    (tmp_path / "input.nn").write_text(INPUT)
    monkeypatch.chdir(tmp_path)
    keys = {"type": "acsf", "cutoff": 3.8, "functions_file": "input.nn", "functions_length_unit": "bohr", "n_sparse": 8}
    config = FitConfig(terms=[keys], check_labels=False, **NOISES)
    again = FitConfig.model_validate_json(config.model_dump_json())
    assert again == config and hash(again.terms[0]) == hash(config.terms[0])
    model = mlpot.fit(two_elements[:2], config)
    model.save("m.h5")
    (tmp_path / "input.nn").unlink()
    other = mlpot.load_model("m.h5")
    np.testing.assert_array_equal(other.predict(small()).forces, model.predict(small()).forces)
    assert other.config == model.config and other.terms[0].descriptor == model.terms[0].descriptor
    first = model.terms[0].descriptor.functions[0]
    assert first.factor.eta == pytest.approx(0.1 / Bohr**2) and (first.centre, first.neighbours) == (14, (6,))
    (tmp_path / "input.nn").write_text(INPUT.replace("cutoff_type 2", "cutoff_type 0"))
    for change, message in (
        ({}, "cutoff_type 0"),
        ({"functions_file": "nowhere.nn"}, "'nowhere.nn': cannot be read"),
        ({"functions": TABLE}, "give one of them"),
        ({"cutoff_function": "tanh"}, "has its own; remove it"),
    ):
        with pytest.raises(ConfigError, match=message):
            FitConfig(terms=[{**keys, **change}])
    (tmp_path / "input.nn").write_text(INPUT)
    with pytest.raises(ConfigError, match=r"beyond cutoff = 3\.0 A; raise cutoff"):
        FitConfig(terms=[{**keys, "cutoff": 3.0}])
    with pytest.raises(ConfigError, match=r"is for \['C'\], which the data does not contain"):
        mlpot.fit(make_frames(2), FitConfig(terms=[keys]))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"functions": [["G4", 0.1, 0.5, 1]]}, "zeta = 0.5: must be at least 1"),
        ({"functions": [["G5", 0.1, 2.5, 0.5]]}, "lambda = 0.5 with zeta = 2.5"),
        ({"functions": [["G2", 0.1, 0.0], ["G2", 0.1, 0.0]]}, r"functions\[1\] .* is the same as functions\[0\]; remove one"),
        ({"functions": [["G2", -0.1, 0.0]]}, "eta must be at least 0"),
        ({"functions": [["G2", 1e9, 2.0]]}, "at most 1000 1/A.2"),
        ({"functions": [["G9", 0.1, 0.0]]}, "must be one of G1, G2"),
        ({"functions": [["G2", 0.1]]}, "G2 is written with eta r_s behind its name"),
        ({"functions": [["G2", "0.1", 0.0]]}, "must be finite numbers"),
        ({"functions": ["G2", 0.1, 0.0]}, "must be a list such as"),
        ({"functions": [["C20", "p2", 0.0, 7.0]]}, "beyond cutoff = 5.0 A; raise cutoff"),
        ({"functions": [{"kind": "G2"}]}, "is no table of functions"),
        ({"functions": []}, "functions"),
        ({"functions": "atuo"}, 'did you mean "auto"'),
        ({"functions": "amp", "n_functions": 3}, 'n_functions = 3: is for functions = "auto"'),
        ({"functions": TABLE, "select": "farthest"}, 'select = farthest: is for functions = "auto"'),
        ({"n_functions": 3, "select": "none"}, "keeps all functions"),
        ({"functions_length_unit": "bohr"}, "is for functions_file"),
        ({"cutoff_function": "hard"}, "cutoff_function"),
        ({"cutoff_function": "tanh", "cutoff_alpha": 0.2}, "has no plateau"),
        ({"cutoff": 1000.0}, "cutoff = 1000.0"),
        ({"zeta": 1.5}, "whole number"),
        ({"type": "chebyshev", "angular_cutoff": 6.0}, "not beyond cutoff = 5.0 A"),
        ({"type": "chebyshev", "species_weights": "learned"}, "are not learned; set"),
        ({"type": "chebyshev", "species_weights": {"Xx": 1.0}}, "are not chemical symbols"),
        ({"type": "chebyshev", "species_weights": {"Si": 1.0, "C": [1.0, 2.0]}}, "as many numbers for each element"),
        ({"type": "chebyshev", "species_weights": {"Si": []}}, "as many numbers for each element"),
        ({"type": "chebyshev", "n_weights": 2}, 'is for species_weights = "periodic"'),
        ({"type": "chebyshev", "species_weights": "periodic", "weights_seed": 2}, 'is for species_weights = "random"'),
        ({"type": "chebyshev", "angular_order": 21}, "at most 20"),
        ({"type": "zernike", "n_max": -1}, "n_max = -1: must be an integer of at least 0"),
        ({"type": "zernike", "nmax": 4}, "nmax: unknown key; did you mean 'n_max'"),
        ({"type": "zernike", "kernel": "dot"}, "kernel"),
        ({"type": "bispectrum", "two_j_max": 15}, "two_j_max = 15: must be an integer of at least 0 and at most 14"),
        ({"type": "bispectrum", "rfac0": 1.0}, "rfac0 = 1.0"),
        ({"type": "bispectrum", "rmin0": 5.0}, "below the shortest cutoff, 5 A"),
        ({"type": "bispectrum", "twojmax": 6}, "twojmax: unknown key; did you mean 'two_j_max'"),
        ({"type": "bispectrum", "radii": {"Si": 0.5}, "weights": {"C": 1.0}}, "must name the same elements"),
        ({"type": "bispectrum", "radii": {"Xx": 0.5}}, "are not chemical symbols"),
        ({"type": "bispectrum", "angle": "amp", "chem": True}, 'chem = True: is for angle = "snap"'),
        ({"type": "mbtr", "k2": {"min": 2.0}}, "k2: min = 2.0, max = 1.1: min must be below max"),
        ({"type": "mbtr", "k2": {"n": 8}}, "sigma = 0.03: is below a third of the width of a bin"),
        ({"type": "mbtr", "k3": {"geometry": "angle"}}, 'use "cosine"'),
        ({"type": "mbtr", "k3": {"weighting": "unity", "scale": 1.0}}, "scale = 1.0"),
        ({"type": "mbtr", "cutoff_width": 6.0}, "cutoff_width = 6.0"),
    ],
    ids=str,
)
def test_settings_that_are_wrong(keys, message):
    with pytest.raises(ConfigError, match=message):
        FitConfig(terms=[{"type": "acsf", **keys}])


def test_elements_without_weights(two_elements):
    terms = [{"type": "chebyshev", "species_weights": {"Si": 1.0}}]
    with pytest.raises(ConfigError, match="has no entry for C, which occurs in the data"):
        mlpot.fit(two_elements[:2], FitConfig(terms=terms, check_labels=False))
    with pytest.raises(ConfigError, match="has no entry for C"):
        mlpot.describe(two_elements[0], terms[0])
    with pytest.raises(ConfigError, match=r"radii = .* has no entry for C, which occurs in the data"):
        mlpot.describe(two_elements[0], {"type": "bispectrum", "radii": {"Si": 0.5}})


@pytest.mark.parametrize("r_s", [0.1, 1.234, 2.0, 4.9])
def test_the_sharpest_functions_are_not_missed(r_s):
    found = ACSF((14,), 5.0, [["G2", 1000.0, r_s], ["G1"]])
    dimers = [Atoms("Si2", [[0, 0, 0], [0, 0, r_s + 0.01 * k]]) for k in range(5, 8)]
    for atoms, k in zip(dimers, range(5, 8), strict=True):
        sharp, plain = found.compute(find_pairs(atoms, 5.0))[0]
        assert sharp == pytest.approx(plain * np.exp(-0.1 * k**2), abs=1e-12)


def test_functions_too_sharp_for_tables(two_elements):
    terms = [{"type": "acsf", "functions": [["G3", 1e5]]}]
    with pytest.raises(ConfigError, match="too sharp to tabulate; use a smaller eta"):
        mlpot.fit(two_elements[:2], FitConfig(terms=terms, check_labels=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("acsf", {"functions": [{"kind": "G2"}]}, "is no symmetry function"),
        ("acsf", {"cutoff": 1.0}, "beyond cutoff"),
        ("acsf", {"columns": [0, 0]}, "columns"),
        ("acsf chosen", {"columns": None}, "columns: missing"),
        ("acsf chosen", {"columns": [1, 2, 100000]}, "ascending numbers of some of the 196 features"),
        ("acsf chosen", {"columns": [0, 1]}, "mean"),
        ("chebyshev", {"radial_order": 2.5}, "chebyshev"),
        ("chebyshev", {"species_weights": [1e300, 0.0]}, "must be finite numbers of at most"),
        ("bispectrum", {"two_j_max": 20}, "two_j_max = 20"),
        ("bispectrum", {"radii": [0.5]}, "one for each of 2 elements"),
        ("mbtr", {"k2": {"sigma": 1}}, "k2"),
        ("zernike", {"n_max": 4}, "mean"),
        ("zernike", {"cutoff": 1e6}, "cutoff 1000000.0 A"),
    ],
    ids=str,
)
def test_files_that_were_edited(name, change, message, models, tmp_path):
    models(TERMS[name]).save(tmp_path / "m.h5")
    with edited(tmp_path / "m.h5") as h5:
        header = json.loads(h5.attrs["header"])
        header["terms"][1]["state"] |= change
        h5.attrs["header"] = json.dumps(header)
    with pytest.raises(ModelFileError, match=message):
        mlpot.load_model(tmp_path / "m.h5")


def test_fits_whose_choice_was_edited(two_elements, tmp_path):
    fit = mlpot.Fit(FitConfig(terms=[CHOSEN], **NOISES), (6, 14))
    fit.update(two_elements[:1], fit.propose(two_elements[:1]))
    for k, wrong in enumerate(([3, 1], [[1, 2]], [0.5, 1.5], [0, 1], [5, 10**6], None)):
        fit.save(tmp_path / f"{k}.h5")
        with edited(tmp_path / f"{k}.h5") as h5:
            del h5["tables/0/choices/columns"]
            if wrong is not None:
                h5["tables/0/choices/columns"] = np.array(wrong)
        with pytest.raises(ModelFileError):
            mlpot.Fit.load(tmp_path / f"{k}.h5")


def test_extrapolation_is_refused():
    with pytest.raises(ConfigError, match='type = "chebyshev" does not know which elements are alike'):
        FitConfig(terms=[{"type": "chebyshev"}], extrapolate=True)
