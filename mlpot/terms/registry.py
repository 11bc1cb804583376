"""All kinds of terms by the name that settings and files give them, with their settings and their class."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..settings.fit import PairTermSettings, SoapTermSettings
from ..settings.kernel import DescriptorTermSettings
from ..settings.terms import TermSettingsBase
from .features import FeatureTerm
from .pair import PairTerm
from .protocol import FittedTerm, Tables
from .soap import SoapTerm
from .three_body import ThreeBodyTerm


class TermType(NamedTuple):
    """A kind of term.

    Parameters
    ----------
    settings : type or None
        Class, or base, of its settings; None: it occurs in imported models only.
    term : type
    """

    settings: type[TermSettingsBase] | None
    term: Any


TERM_TYPES: dict[str, TermType] = {
    "pair": TermType(PairTermSettings, PairTerm),
    "soap": TermType(SoapTermSettings, SoapTerm),
    "features": TermType(DescriptorTermSettings, FeatureTerm),
    "three_body": TermType(None, ThreeBodyTerm),
}
"""By the type that headers of files say."""


def term_type(settings: TermSettingsBase) -> TermType:
    """The kind of term that settings describe."""
    return next(kind for kind in TERM_TYPES.values() if kind.settings and isinstance(settings, kind.settings))


def empty_term(
    settings: TermSettingsBase, species: tuple[int, ...], energy_scale: float, tables: Tables | None = None
) -> FittedTerm:
    """What settings describe, without sparse points; with the `tables` of another term of the same settings."""
    return term_type(settings).term.empty(settings, species, energy_scale, tables)
