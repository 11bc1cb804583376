"""Features as a transformer for scikit-learn (`pip install 'mlpot[sklearn]'`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from .analysis.feature_table import feature_rows
from .analysis.sources import FeatureSource, source_of_settings
from .errors import ConfigError, MlpotError
from .settings.fit import ModelSettings

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise MlpotError(
        f"mlpot.sklearn needs scikit-learn ({error}); install it with: pip install 'mlpot[sklearn]'"
    ) from error

DEFAULT_TERMS: dict[str, Any] = {"type": "soap", "n_max": 8, "l_max": 6, "cutoff": 5.0}
PER = ("atom", "mean", "sum")


class Features(TransformerMixin, BaseEstimator):
    """Features of atoms or structures by the descriptors of terms.

    Parameters
    ----------
    terms : dict or sequence of dict, optional
        Settings as in `[[model.terms]]`; features of several terms stand side by side. A SOAP of 5 A by default.
    per : "mean", "sum" or "atom"
        One row per structure, mean or sum over its atoms; or one row per atom of all structures, in order.
    species : sequence of int, optional
        Atomic numbers; the elements of the structures given to `fit` by default.

    Attributes
    ----------
    species_ : tuple of int
    source_ : FeatureSource
        The descriptor, with everything chosen on the structures of `fit`.
    n_features_out_ : int

    Raises
    ------
    ConfigError
        By `fit`: for invalid settings or terms without features.
    TypeError
        For anything that is no sequence of ase.Atoms.
    ValueError
        (StructureError, UnknownSpeciesError) For structures that cannot be used, and for no structures at all.

    Examples
    --------
    >>> from ase.build import molecule
    >>> features = Features({"type": "acsf", "cutoff": 4.0, "functions": [["G2", 0.5, 1.0]]})
    >>> features.fit_transform([molecule("H2O"), molecule("OH")]).shape
    (2, 2)
    >>> features.get_feature_names_out().tolist()
    ['G2(eta=0.5, r_s=1) H', 'G2(eta=0.5, r_s=1) O']
    """

    def __init__(
        self,
        terms: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        per: str = "mean",
        species: Sequence[int] | None = None,
    ) -> None:
        self.terms = terms
        self.per = per
        self.species = species

    def fit(self, X: Sequence[Atoms], y: Any = None) -> Features:
        """Take elements, and functions that are chosen on data, from structures."""
        frames = _frames(X)
        if self.per not in PER:
            raise ConfigError(f"per = {self.per!r}: must be one of {', '.join(PER)}")
        terms = DEFAULT_TERMS if self.terms is None else self.terms
        many = (terms,) if isinstance(terms, Mapping) else tuple(terms)
        species = [z for atoms in frames for z in atoms.numbers] if self.species is None else self.species
        self.source_: FeatureSource = source_of_settings(ModelSettings(terms=many), species, frames)
        self.species_ = self.source_.species
        self.n_features_out_ = self.source_.n_features
        return self

    def transform(self, X: Sequence[Atoms]) -> np.ndarray:
        """Features (n_structures, n_features_out_), or (n_atoms, n_features_out_) with per = "atom"."""
        check_is_fitted(self)
        per: Any = self.per
        return np.concatenate([found.features for found in feature_rows(self.source_, _frames(X), per)])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names (n_features_out_,) of the features; `input_features` is ignored."""
        check_is_fitted(self)
        return np.array(self.source_.names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.sparse = False
        tags.no_validation = True
        tags.requires_fit = True
        return tags


def _frames(X: Any) -> list[Atoms]:
    """The structures as a list; a single structure is refused, since iterating it would give atoms."""
    if isinstance(X, Atoms):
        raise TypeError("expected a sequence of ase.Atoms, not a single one; put it into a list")
    frames = list(X) if isinstance(X, Sequence | np.ndarray) or hasattr(X, "__iter__") else None
    if frames is None or not all(isinstance(atoms, Atoms) for atoms in frames):
        raise TypeError(f"expected a sequence of ase.Atoms, not {type(X).__name__} of other things")
    if not frames:
        raise ValueError("Found array with 0 sample(s): there are no structures; a minimum of 1 is required")
    return frames
