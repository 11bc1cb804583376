"""Descriptors out of settings of terms and out of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ase import Atoms
from ase.data import chemical_symbols

from ..descriptors.protocol import Descriptor
from ..errors import ConfigError
from ..fitting.surroundings import settled
from ..models.sparse_gp import SparseGP
from ..settings.fit import FitConfig, ModelSettings
from ..settings.presets import resolve
from ..structures import LabelledStructure
from ..terms.registry import empty_term
from .stacked import KernelFeatures, stacked


@dataclass(frozen=True)
class FeatureSource:
    """A descriptor and its origin.

    Parameters
    ----------
    descriptor : Descriptor
        Of one term, or of several side by side.
    labels : tuple of (str, int)
        Type and number of features of every term, in the order of the columns.
    settings : tuple of dict
        Settings of these terms; empty where a model does not know them.
    left_out : tuple of str
        Terms that have no features.
    """

    descriptor: Descriptor
    labels: tuple[tuple[str, int], ...]
    settings: tuple[dict[str, Any], ...]
    left_out: tuple[str, ...] = ()

    @property
    def species(self) -> tuple[int, ...]:
        """Sorted atomic numbers."""
        return self.descriptor.species

    @property
    def cutoff(self) -> float:
        """A."""
        return self.descriptor.cutoff

    @property
    def n_features(self) -> int:
        return self.descriptor.n_features

    @property
    def names(self) -> tuple[str, ...]:
        """Different names of all features (n_features); a number is added to those that would occur twice."""
        seen: dict[str, int] = {}
        found = []
        for name in self.descriptor.feature_names():
            seen[name] = seen.get(name, 0) + 1
            found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
        return tuple(found)


def source_of_settings(model: ModelSettings, species: Sequence[int], frames: Sequence[Atoms]) -> FeatureSource:
    """Features of terms, or of the terms of a preset, for some elements.

    Parameters
    ----------
    model : ModelSettings
        Keys of kernels and of sparse points have no effect, apart from terms without a descriptor.
    species : sequence of int
        Atomic numbers.
    frames : sequence of ase.Atoms
        Structures on which a term chooses its features, where its settings ask for that (`select` of "acsf"), and sparse points of
        terms without a descriptor.

    Raises
    ------
    ConfigError
        For settings that do not fit the elements, channels that a fit would have to learn, or where all is left to a choice on data
        and there are no frames.
    """
    known = tuple(sorted({int(z) for z in species}))
    if not known:
        raise ConfigError("elements: there are none; name them, or give structures")
    config = resolve(FitConfig(**dict(model)), known)
    parts, kept, left_out, bare = list[Descriptor](), [], list[str](), []
    for k, term in enumerate(config.terms):
        if term.is_learned:
            raise ConfigError(
                f'model.terms[{k}]: embedding = "learned": channels are learned by a fit; give the model with --model, or set '
                '"periodic" or "random"'
            )
        made: Any = empty_term(term, known, 1.0)
        if not made.is_many_body:
            left_out.append(f"model.terms[{k}] ({term.type})")
            bare.append((term, made))
            continue
        if not getattr(made.descriptor, "is_settled", True):
            if not frames:
                raise ConfigError(
                    f'model.terms[{k}]: features are chosen on data; give structures, or set select = "none"'
                )
            made = settled(made, frames)
        parts.append(made.descriptor)
        kept.append(term)
    if not parts:
        parts, kept, left_out = _kernels(bare, frames), [term for term, _ in bare], []
    labels = tuple((term.type, part.n_features) for term, part in zip(kept, parts, strict=True))
    settings = tuple(term.model_dump(mode="json") for term in kept)
    return FeatureSource(stacked(parts), labels, settings, tuple(left_out))


def _kernels(terms: Sequence[tuple[Any, Any]], frames: Sequence[Atoms]) -> list[Descriptor]:
    """Covariances with sparse points on the frames, of terms without a descriptor."""
    if not frames:
        kinds = sorted({settings.type for settings, _ in terms})
        raise ConfigError(f"type = {kinds}: has no features without sparse points; give structures")
    structures = [LabelledStructure(atoms, None, None, None, "", "") for atoms in frames]
    return [KernelFeatures(term.with_points(tuple(term.new_points(structures, settings)))) for settings, term in terms]


def source_of_model(model: SparseGP) -> FeatureSource:
    """Features of the terms of a fitted model, with the channels and columns that the fit has chosen.

    Many-body terms are taken where there are any, covariances with the sparse points of the other terms otherwise.

    Raises
    ------
    ConfigError
        For a model without terms.
    """
    own: list[Any] = [term for term in model.terms if term.is_many_body]
    others: list[Any] = [term for term in model.terms if not term.is_many_body and term.n_sparse]
    if not own and not others:
        raise ConfigError("the model has no terms with features; it is a baseline only")
    parts = [term.descriptor for term in own] or [KernelFeatures(term) for term in others]
    chosen = own or others
    labels = tuple((_label(term), part.n_features) for term, part in zip(chosen, parts, strict=True))
    known = () if model.config is None else tuple(model.config.terms)
    settings = tuple(t.model_dump(mode="json") for t in known) if len(known) == len(model.terms) else ()
    if settings:
        settings = tuple(s for s, term in zip(settings, model.terms, strict=True) if any(term is c for c in chosen))
    return FeatureSource(stacked(parts), labels, settings, tuple(_label(t) for t in others) if own else ())


def _label(term: Any) -> str:
    return str(getattr(term, "label", type(term).__name__))


def symbols(species: Sequence[int]) -> list[str]:
    """Chemical symbols of atomic numbers."""
    return [chemical_symbols[z] for z in species]
