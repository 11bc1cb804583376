"""Maps from neighbour pairs to features, and back for gradients."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ACSF": "acsf",
    "Bispectrum": "bispectrum",
    "Chebyshev": "chebyshev",
    "Mbtr": "mbtr",
    "SoapDescriptor": "density",
    "Zernike": "zernike",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load descriptors on first use: not every module of this package needs the compiled extensions."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mlpot.descriptors' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
