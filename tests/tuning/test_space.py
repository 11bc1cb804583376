"""Spaces of settings: paths, ranges and choices, and messages about wrong ones."""

import numpy as np
import pytest
from conftest import SMALL_TERMS

from mlpot.errors import ConfigError
from mlpot.settings.fit import FitConfig
from mlpot.tuning.space import Space

TEMPLATE = FitConfig(terms=SMALL_TERMS)
SEARCH = {
    "terms[0].cutoff": [2.5, 6.0],
    "terms[*].cutoff_width": [0.3, 4.0],
    "model.terms[1].n_max": [4, 10],
    "terms[1].zeta": [2, 3, 4],
    "terms[0]": [True, False],
    "fit.force_noise": {"low": 0.001, "high": 0.1, "log": True},
}


def test_points_become_configurations_and_come_back():
    space = Space.of(SEARCH, TEMPLATE)
    for point in np.random.default_rng(0).random((50, space.dimension)):
        values = space.values(point)
        config = space.config(values)
        assert len(config.terms) == (2 if values["terms[0]"] else 1)
        soap = config.terms[-1]
        assert 4 <= soap.n_max <= 10 and isinstance(soap.n_max, int) and soap.zeta in (2, 3, 4)
        assert soap.cutoff_width == min(values["terms[*].cutoff_width"], soap.cutoff)
        assert config.force_noise == values["force_noise"]
        assert space.values(space.snapped(point)) == values
        assert space.values(space.point(values)) == values


def test_every_integer_and_choice_is_equally_likely():
    space = Space.of({"terms[1].n_max": [4, 7], "terms[1].zeta": [2, 3]}, TEMPLATE)
    drawn = [space.values(p) for p in np.random.default_rng(0).random((4000, 2))]
    assert np.allclose(np.bincount([v["terms[1].n_max"] for v in drawn])[4:] / 4000, 0.25, atol=0.03)
    assert np.mean([v["terms[1].zeta"] == 2 for v in drawn]) == pytest.approx(0.5, abs=0.03)


def test_another_type_of_term_takes_the_keys_that_it_knows():
    space = Space.of({"terms[1].type": ["soap", "acsf"], "terms[1].n_functions": [32, 64]}, TEMPLATE)
    acsf = space.config({"terms[1].type": "acsf", "terms[1].n_functions": 40}).terms[1]
    assert (acsf.type, acsf.cutoff, acsf.n_sparse, acsf.n_functions) == ("acsf", 4.0, 40, 40)
    assert space.config({"terms[1].type": "soap", "terms[1].n_functions": 40}).terms[1] == TEMPLATE.terms[1]


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"terms[0].cutof": [1, 2]}, "unknown key; did you mean 'cutoff'?"),
        ({"terms[5].cutoff": [1, 2]}, "there is no such term; the model has 2 terms (0 to 1)"),
        ({"force_nois": [1, 2]}, "did you mean 'force_noise'?"),
        ({"cutoff": [1, 2]}, "did you mean 'terms[0].cutoff'?"),
        ({"terms[0] cutoff": [1, 2]}, "is no path of a setting"),
        ({"terms[0].cutoff": [2, 1]}, "is inverted; write [1, 2]"),
        ({"terms[0].cutoff": [2, 2]}, "is empty"),
        ({"terms[0].cutoff": [float("nan"), 2]}, "must be finite numbers"),
        ({"terms[0].cutoff": [-1, 4]}, "-1.0 is not possible: terms[0].cutoff = -1.0: must be a positive number (A)"),
        ({"terms[0].cutoff": {"low": 0, "high": 2, "log": True}}, "a logarithmic range must be positive"),
        ({"terms[1].l_max": [2, 30]}, "30 is not possible"),
        ({"terms[1].l_max": [2, 3.5]}, "give whole numbers"),
        ({"terms[1].zeta": [3]}, "leaves nothing to choose"),
        ({"terms[1].zeta": [3, 3, 4]}, "has one choice twice"),
        ({"terms[1].zeta": 3}, "must be [low, high], a list of choices, or a table"),
        ({"terms[0].cutoff": {"low": 1, "top": 2}}, "unknown key 'top'"),
        ({"terms[1].radial_basis": ["gap", "gto"]}, "'gto' is not possible"),
        ({"terms[1].cutoff": [3, 4], "model.terms[1].cutoff": [3, 5]}, "are the same setting"),
    ],
)  # fmt: skip
def test_wrong_spaces_are_one_clear_line(search, words):
    with pytest.raises(ConfigError) as error:
        Space.of(search, TEMPLATE)
    assert words in str(error.value) and "tune.search" in str(error.value) and "\n" not in str(error.value)
