"""The transformer for scikit-learn, by scikit-learn's own checks and in pipelines."""

import pickle
from contextlib import suppress
from unittest import SkipTest

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

sklearn = pytest.importorskip("sklearn")
from sklearn.base import clone  # noqa: E402
from sklearn.linear_model import Ridge  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import estimator_checks_generator  # noqa: E402
from sklearn.utils.validation import validate_data  # noqa: E402

from mlpot import describe  # noqa: E402
from mlpot.errors import ConfigError, UnknownSpeciesError  # noqa: E402
from mlpot.sklearn import Features  # noqa: E402

ACSF = {"type": "acsf", "cutoff": 4.0, "functions": [["G2", 0.5, 1.0], ["G5", 0.1, 2.0, 1.0]]}
SOAP = {"type": "soap", "n_max": 3, "l_max": 2, "cutoff": 4.0}
FRAMES = [molecule(name) for name in ("H2O", "OH", "H2", "H2O2")]


class OfRows(Features):
    """The transformer behind the checks' interface: a row of a table is a dimer whose distance follows from the row's numbers.

    scikit-learn's checks feed tables of numbers, which `Features` has to refuse.
    """

    def fit(self, X, y=None):
        return super().fit(self._dimers(validate_data(self, X)), y)

    def transform(self, X):
        sklearn.utils.validation.check_is_fitted(self)
        return super().transform(self._dimers(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.no_validation = True, False
        return tags

    @staticmethod
    def _dimers(rows):
        return [Atoms("H2", positions=[[0, 0, 0], [0, 0, 1.5 + np.tanh(row.sum())]]) for row in np.asarray(rows, float)]


def checks(estimator):
    """scikit-learn's checks of an estimator, except those that ask for tables although the tags deny them."""
    return list(estimator_checks_generator(estimator, mark="skip"))


def test_the_checks_of_scikit_learn_that_apply_pass():
    """Of the transformer itself: those that do not feed numbers. Its tags say that it takes no tables."""
    with pytest.warns(sklearn.exceptions.SkipTestWarning, match="two_d_array=False"):
        found = checks(Features(ACSF))
    assert found
    for estimator, check in found:
        check(estimator)


def test_all_checks_pass_with_rows_as_structures():
    names = []
    for estimator, check in checks(OfRows(ACSF)):
        with suppress(SkipTest):  # checks that need environment variables or other packages
            check(estimator)
            names.append(getattr(check, "func", check).__name__)
    assert len(names) > 25
    assert {"check_estimators_pickle", "check_transformer_general", "check_methods_subset_invariance"} <= set(names)


@pytest.mark.parametrize("per", ["mean", "sum", "atom"])
def test_features_are_those_of_describe(per):
    found = Features([SOAP, ACSF], per=per).fit_transform(FRAMES)
    rows = [np.concatenate([describe(atoms, s, species=[1, 8]) for s in (SOAP, ACSF)], axis=1) for atoms in FRAMES]
    if per != "atom":
        rows = [getattr(row, per)(axis=0)[None] for row in rows]
    np.testing.assert_allclose(found, np.concatenate(rows), rtol=1e-12, atol=1e-13)


def test_pipelines_learn_and_search():
    energies = np.array([len(atoms) * 1.5 + np.sum(atoms.numbers) for atoms in FRAMES])
    pipe = make_pipeline(Features(ACSF, per="sum", species=[1, 8]), StandardScaler(), Ridge(1e-8))
    assert np.allclose(pipe.fit(FRAMES, energies).predict(FRAMES), energies, atol=1e-3)
    search = GridSearchCV(pipe, {"features__per": ["sum", "mean"]}, cv=2, error_score="raise").fit(FRAMES, energies)
    assert search.best_params_["features__per"] in ("sum", "mean")
    again = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(again.predict(FRAMES), pipe.predict(FRAMES))


def test_names_clones_and_pandas():
    fitted = Features([SOAP, ACSF]).fit(FRAMES)
    names = fitted.get_feature_names_out()
    assert len(set(names)) == len(names) == fitted.n_features_out_ == fitted.transform(FRAMES[:1]).shape[1]
    copy = clone(fitted)
    assert not hasattr(copy, "source_") and copy.get_params()["terms"] == [SOAP, ACSF]
    pandas = pytest.importorskip("pandas")
    table = Features(ACSF).set_output(transform="pandas").fit_transform(FRAMES)
    assert isinstance(table, pandas.DataFrame) and next(iter(table.columns)) == "G2(eta=0.5, r_s=1) H"


def test_choices_are_made_on_the_structures_of_fit():
    fitted = Features({"type": "acsf", "cutoff": 4.0, "n_functions": 5}).fit(FRAMES)
    assert fitted.transform(FRAMES[1:]).shape == (3, 5)
    np.testing.assert_array_equal(fitted.transform(FRAMES)[1:], fitted.transform(FRAMES[1:]))


def test_wrong_inputs():
    with pytest.raises(sklearn.exceptions.NotFittedError):
        Features().transform(FRAMES)
    with pytest.raises(TypeError, match="put it into a list"):
        Features().fit(FRAMES[0])
    with pytest.raises(TypeError, match=r"sequence of ase\.Atoms"):
        Features().fit(np.ones((3, 2)))
    with pytest.raises(ValueError, match="no structures"):
        Features().fit([])
    with pytest.raises(ConfigError, match="per = 'each'"):
        Features(per="each").fit(FRAMES)
    with pytest.raises(ConfigError, match="did you mean"):
        Features({"type": "soap", "nmax": 3}).fit(FRAMES)
    with pytest.raises(UnknownSpeciesError):
        Features(ACSF).fit(FRAMES).transform([molecule("CH4")])
