"""Registry of the kinds of terms by name, with their settings and classes."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import ConfigError
from ..settings.fit import PairTermSettings, SoapTermSettings
from ..settings.kernel import DescriptorTermSettings
from ..settings.terms import TermSettingsBase
from .features import FeatureTerm
from .linear import LinearTerm
from .pair import PairTerm
from .protocol import FittedTerm, Tables
from .soap import SoapTerm
from .three_body import ThreeBodyTerm


class TermType(NamedTuple):
    """A kind of term.

    Parameters
    ----------
    settings : type or None
        Class, or base class, of the settings; None for terms that occur only in imported models.
    term : type
    """

    settings: type[TermSettingsBase] | None
    term: Any


TERM_TYPES: dict[str, TermType] = {
    "pair": TermType(PairTermSettings, PairTerm),
    "soap": TermType(SoapTermSettings, SoapTerm),
    "features": TermType(DescriptorTermSettings, FeatureTerm),
    "linear": TermType(None, LinearTerm),
    "three_body": TermType(None, ThreeBodyTerm),
}
"""Kinds of terms by the `type` in file headers."""


def term_type(settings: TermSettingsBase) -> TermType:
    """Kind of the term described by settings."""
    return next(kind for kind in TERM_TYPES.values() if kind.settings and isinstance(settings, kind.settings))


def empty_term(
    settings: TermSettingsBase, species: tuple[int, ...], energy_scale: float, tables: Tables | None = None
) -> FittedTerm:
    """Create the term described by settings, without sparse points; `tables` may come from another term with equal settings.

    Raises
    ------
    ConfigError
        For settings that would lead to arrays of unbounded size.
    """
    kind = term_type(settings).term
    try:
        kind.check_settings(settings)
    except ValueError as error:
        raise ConfigError(f"term of type {dict(settings)['type']!r}: {error}") from error
    return kind.empty(settings, species, energy_scale, tables)
