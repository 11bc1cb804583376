"""Default spaces: ranges made from the bonds and elements of the data."""

from __future__ import annotations

from typing import Any

from ..descriptors.periodic import longest_bond
from ..settings.fit import FitConfig
from ..settings.presets import resolve
from .material import Material

REACH = (1.25, 2.8)
"""Smallest and largest cutoff in units of a bond."""
LOWEST_TOP = 4.5
"""The largest cutoff is at least this, A: molecules with hydrogen have short bonds, but interact farther."""
WIDTHS = (0.2, 1.5)
"""Range of `cutoff_width`, in units of a bond."""
SIGMAS = (0.12, 0.42)
"""Range of `atom_sigma`, in units of a bond; the lower end applies to the shortest distance, if it is smaller."""
LENGTHS = (0.2, 1.6)
"""Range of `length_scale` of pair terms, A: with fewer than 24 sparse radii to 5 A shorter ones see nothing between these."""
COUNTS: dict[str, Any] = {
    "pair": {"kernel": ["gaussian", "matern"], "length_scale": {"low": LENGTHS[0], "high": LENGTHS[1], "log": True}},
    "soap": {
        "n_max": [4, 10], "l_max": [3, 8], "zeta": [2, 3, 4, 6],
        "order": {"choices": [2, 3]}, "order_weight": {"low": 0.05, "high": 1.0, "log": True},
    },
    "acsf": {"n_functions": [32, 160], "zeta": [2, 3, 4, 6]},
    "chebyshev": {"radial_order": [6, 24], "angular_order": [2, 10], "zeta": [2, 3, 4, 6]},
    "zernike": {"n_max": [3, 8], "zeta": [2, 3, 4, 6]},
}
"""Orders, exponents and kernels that are searched, by type of term."""


def with_terms(config: FitConfig, material: Material) -> FitConfig:
    """The configuration with the terms of its preset, or of the balanced one, written out."""
    if config.terms:
        return config
    terms = resolve(config, material.species).terms
    return config.model_copy(update={"terms": terms, "preset": None, "cutoff": None})


def default_search(config: FitConfig, material: Material) -> dict[str, Any]:
    """A table [tune.search] for the terms of a configuration."""
    shortest, typical = material.bonds()
    bond = max(typical, 0.9 * longest_bond(material.species))
    low, high = max(REACH[0] * bond, 1.05 * shortest), max(REACH[1] * bond, LOWEST_TOP)
    search: dict[str, Any] = {}
    wide = [k for k, term in enumerate(config.terms) if "cutoff" in type(term).model_fields]
    for k in wide:
        search[f"terms[{k}].cutoff"] = [_short(low), _short(high)]
    if any("cutoff_width" in type(config.terms[k]).model_fields for k in wide):
        search["terms[*].cutoff_width"] = [_short(WIDTHS[0] * bond), _short(WIDTHS[1] * bond)]
    for k, term in enumerate(config.terms):
        if "atom_sigma" in type(term).model_fields:
            search[f"terms[{k}].atom_sigma"] = [_short(SIGMAS[0] * min(shortest, bond) + 0.05), _short(SIGMAS[1] * bond)]
        for key, range_ in COUNTS.get(term.type, {}).items():
            search[f"terms[{k}].{key}"] = range_ if _applies(term, key) else None
    return {key: value for key, value in search.items() if value is not None}


def _applies(term: Any, key: str) -> bool:
    """Whether a key has an effect in a term as it is."""
    if key == "zeta":
        return getattr(term, "kernel", "polynomial") == "polynomial"
    if key.startswith("order"):
        return term.order == 2
    return not (key == "n_functions" and (term.functions != "auto" or term.select == "none"))


def _short(value: float) -> float:
    return float(f"{value:.3g}")
