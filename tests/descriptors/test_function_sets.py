"""Sets of symmetry functions by name, out of files of n2p2, and the choice of a few of them by data."""

from dataclasses import replace

import numpy as np
import pytest
import twins_acsf as twins
from ase.build import bulk, molecule
from ase.units import Bohr
from conftest import make_frames

from mlpot.descriptors import ACSF
from mlpot.descriptors.acsf_functions import RadialFactor
from mlpot.descriptors.acsf_pool import amp_functions, auto_functions, choose_functions, grid_functions
from mlpot.descriptors.cutoff_functions import CutoffFunction
from mlpot.descriptors.even_polynomials import even_polynomial
from mlpot.descriptors.n2p2_input import elements_of, reach_of, read_functions
from mlpot.errors import ConfigError
from mlpot.fitting.surroundings import settled
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import FitConfig
from mlpot.terms.registry import empty_term

INPUT = """
# a comment
cutoff_type 6 0.2   # a polynomial with a plateau
number_of_elements 2
symfunction_short H 2 O 0.5 1.0 8.0
symfunction_short O 2 H 0.05 0.0 7.0
symfunction_short O 3 H O 0.01 -1.0 4.0 8.0   # narrow
symfunction_short O 9 H H 0.02 1.0 2.0 6.0 0.5
symfunction_short H 12 0.1 1.0 8.0
symfunction_short H 13 0.01 0.5 1.0 1.0 6.0
symfunction_short O 20 H 0.0 7.0 p2
symfunction_short O 21 H O 0.0 7.0 60.0 160.0 p2a
symfunction_short O 22 H H 1.0 7.0 60.0 160.0 e
symfunction_short H 23 0.0 7.0 p3
symfunction_short H 24 0.0 7.0 60.0 160.0 p2
symfunction_short H 25 0.0 7.0 60.0 160.0 p4
global_symfunction_short 2 1.0 0.0 5.0
element_symfunction_short O 2 1.5 0.0 5.0
"""


def water_and_more():
    atoms = molecule("H2O")
    atoms += molecule("H2O")
    atoms.positions[3:] += [2.0, 0.4, 0.3]
    return atoms


def test_an_input_of_n2p2():
    functions = read_functions(INPUT, "input.nn", Bohr)
    assert elements_of(functions) == (1, 8) and reach_of(functions) == pytest.approx(8 * Bohr)
    assert functions[0].factor.eta == pytest.approx(0.5 / Bohr**2)
    acsf = ACSF((1, 8), 8 * Bohr, functions)
    pairs = find_pairs(water_and_more(), acsf.cutoff)
    exact = twins.acsf(acsf, pairs)
    assert (np.abs(exact).max(axis=0) > 1e-12).all()
    np.testing.assert_allclose(acsf.compute(pairs), exact, rtol=0, atol=1e-12 * np.abs(exact).max())
    column = [f.function for f in acsf.features].index(functions[0])
    assert not acsf.compute(pairs)[pairs.numbers == 8, column].any(), "a function for hydrogen atoms"
    cotangent = np.random.default_rng(0).normal(size=exact.shape)
    np.testing.assert_allclose(
        acsf.vjp(pairs, cotangent)[:6],
        twins.pullback(acsf, pairs, cotangent, np.arange(6)),
        atol=1e-6 * np.abs(exact).max(),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("symfunction_short H 2 O 0.5 1.0", "line 1: .*its parameters are eta rs rc"),
        ("symfunction_short H 7 O 0.5 1.0 6", "type 7: must be one of 1, 2"),
        ("symfunction_short Xx 2 O 0.5 1.0 6", "line 1: .*cannot be read"),
        ("symfunction_short H 2 O 0.5 1.0 six", "line 1: .*cannot be read"),
        ("symfunction_short H 9 O O 0.1 1 0.5 6", "zeta = 0.5"),
        ("symfunction_short H 2 O nan 1.0 6", "must be finite"),
        ("symfunction_short H 20 O 0 6 p7", "must be one of p1"),
        ("cutoff_type 11\nsymfunction_short H 2 O 0.5 1.0 6", "line 1: .*cutoff_type 0 to 8"),
        ("cutoff_type 1 1.5\nsymfunction_short H 2 O 0.5 1.0 6", "line 1: .*cutoff_alpha = 1.5"),
        ("number_of_elements 2", "no line begins with symfunction_short"),
    ],
)
def test_lines_that_cannot_be_read(line, message):
    with pytest.raises(ConfigError, match=message):
        read_functions(line)


def test_functions_for_elements_that_the_data_lack():
    with pytest.raises(ConfigError, match=r"is for \['O'\], which the data does not contain: \['H'\]"):
        ACSF((1,), 8.0, read_functions("symfunction_short H 2 O 0.5 1.0 6.0"))


def test_amps_default_in_numbers():
    """Oxygen of water, cutoff 6.5 A: AMP's twenty numbers in our order."""
    acsf = ACSF((1, 8), 6.5, "amp")
    found = acsf.compute(find_pairs(molecule("H2O"), 6.5))[0]
    assert acsf.n_features == 20 and len(amp_functions(6.5)) == 8
    np.testing.assert_allclose(
        found[:8], [1.8903144085, 1.882687506, 1.8476874952, 1.6935610857, 0, 0, 0, 0], atol=1e-9
    )
    assert np.abs(found[8:12] - 0.5901759499).min() < 1e-9 and np.abs(found[8:12] - 0.9668517488).min() < 1e-9


def test_the_pool():
    functions = auto_functions(6.0, 8)
    assert len(functions) == 16 + 180
    etas = [f[1] for f in functions if f[0] == "G2" and f[2] == 0]
    np.testing.assert_allclose(etas, (8 ** (np.arange(9) / 8) / 6.0) ** 2)
    shells = [f[2] for f in functions if f[0] == "G2" and f[2]]
    np.testing.assert_allclose(shells, 6.0 / 8 ** (np.arange(1, 8) / 8))
    assert ACSF((6, 14), 6.0, "auto").n_features == 2 * 16 + 3 * 180
    with pytest.raises(ConfigError, match="at least 2"):
        auto_functions(6.0, 1)


@pytest.mark.parametrize(("kind", "last"), [("shifted", ["G2", 0.5, 5.0]), ("centered", ["G2", 0.02, 0.0])])
def test_grids(kind, last):
    functions = grid_functions(5.0, 5, kind, 1.0)
    assert functions[4] == pytest.approx(last)
    assert len(ACSF((14,), 5.0, functions).features) == 5 + 20
    with pytest.raises(ConfigError, match="r_inner"):
        grid_functions(5.0, 5, kind, 6.0)


@pytest.mark.parametrize("method", ["cur", "farthest"])
def test_a_few_features_stand_for_all(method):
    """Features are linear in those chosen to a few percent of their variance; as many random ones leave more."""
    acsf = ACSF((14,), 5.0, auto_functions(5.0, 4))
    rng = np.random.default_rng(0)
    frames = [bulk("Si", cubic=True) for _ in range(40)]
    for frame in frames:
        frame.positions += rng.uniform(0.05, 0.4) * rng.normal(size=frame.positions.shape)
    features = np.concatenate([acsf.compute(find_pairs(frame, 5.0)) for frame in frames])
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)

    def left_over(columns):
        return np.std(scaled - scaled[:, columns] @ np.linalg.lstsq(scaled[:, columns], scaled, rcond=None)[0])

    chosen = choose_functions(features, 16, method)
    assert len(set(chosen.tolist())) == 16
    assert left_over(chosen) < 0.15
    assert left_over(chosen) < np.mean([left_over(rng.permutation(features.shape[1])[:16]) for _ in range(10)])
    np.testing.assert_array_equal(
        chosen[:5], choose_functions(features * rng.uniform(0.01, 100, features.shape[1]), 5, method)
    )
    few = acsf.chosen(chosen)
    np.testing.assert_allclose(
        few.compute(find_pairs(frames[0], 5.0)), features[:8, np.sort(chosen)], rtol=1e-11, atol=1e-13
    )


def test_choices_of_what_does_not_vary():
    x = np.random.default_rng(0).normal(size=(60, 4))
    features = np.hstack([x, np.ones((60, 2)), x[:, :1] - x[:, 1:2]])
    for method in ("cur", "farthest"):
        chosen = choose_functions(features, 7, method)
        assert not {4, 5} & set(chosen.tolist())
    assert len(choose_functions(features, 7, "cur")) == 4
    np.testing.assert_array_equal(choose_functions(features, 1, "none"), [0, 1, 2, 3, 6])
    with pytest.raises(ConfigError, match="no symmetry function varies"):
        choose_functions(np.ones((5, 3)), 2)
    with pytest.raises(ConfigError, match="n_functions = 0"):
        choose_functions(x, 0)
    with pytest.raises(ConfigError, match="select = 'best'"):
        choose_functions(x, 2, "best")


@pytest.mark.parametrize("eta", [0.0, 0.03, 0.3])
def test_even_functions_are_polynomials(eta):
    found = even_polynomial(RadialFactor(CutoffFunction(6.0), eta).curve, 6.0)
    assert 8 < len(found) < 30
    r = np.random.default_rng(0).uniform(0, 6, 50)
    exact = np.exp(-eta * r**2) * (np.cos(np.pi * r / 6) + 1) / 2
    np.testing.assert_allclose(np.polyval(found, 2 * (r / 6) ** 2 - 1), exact, rtol=0, atol=2e-14)


@pytest.mark.parametrize(
    ("cutoff", "eta", "r_s"),
    [(CutoffFunction(6.0), 0.3, 1.0), (CutoffFunction(6.0), 4.0, 0.0), (CutoffFunction(6.0, "poly1"), 0.0, 0.0),
     (CutoffFunction(6.0, alpha=0.3), 0.0, 0.0)],
)  # fmt: skip
def test_functions_that_are_no_such_polynomials(cutoff, eta, r_s):
    """Not even, too sharp, an odd power, and a plateau."""
    assert even_polynomial(RadialFactor(cutoff, eta, r_s).curve, 6.0) is None


def test_chosen_features_have_the_scalar_products_of_all():
    """On structures that were not used for the choice; 40 of 212."""
    frames = make_frames(4, numbers=(6, 14), seed=3)
    keys = {"type": "acsf", "cutoff": 3.8, "weighted": True, "offset": 0.3}
    pairs = find_pairs(frames[3], 3.8)
    overlaps, alone = [], None
    for choice in ({"select": "none"}, {"n_functions": 40}):
        made = empty_term(FitConfig(terms=[{**keys, **choice}]).terms[0], (6, 14), 1.0)
        unit = settled(made, frames[:3]).unit
        p = unit.compute(pairs)
        overlaps.append(p @ p.T)
        if "n_functions" in choice:
            p = replace(unit, standardiser=replace(unit.standardiser, metric=None)).compute(pairs)
            alone = p @ p.T
    same = np.equal.outer(pairs.numbers, pairs.numbers)
    every, chosen = (overlap[same] for overlap in overlaps)
    assert every.min() < 0.8
    assert 8 * np.abs(chosen - every).max() < np.abs(alone[same] - every).max()
