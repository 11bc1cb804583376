"""Kernels of environments, as functions of the overlap s = p . p' of normalised features."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np


class Kernel(Protocol):
    """A covariance of local energies in units of the squared energy scale, 1 at s = 1."""

    name: ClassVar[str]
    """Name in settings and files."""

    def value(self, s: Any) -> Any:
        """k(s) for overlaps s, a number or an array of any shape."""

    def slope(self, s: Any) -> Any:
        """dk/ds, with the shape of s."""

    @property
    def parameters(self) -> dict[str, float]:
        """Parameters from which `make_kernel` recreates the kernel."""

    @property
    def core_parameters(self) -> dict[str, float]:
        """The kernel as arguments of `Points` of the compiled core."""


@dataclass(frozen=True)
class PolynomialKernel:
    """k(s) = s^zeta with zeta >= 1; for non-integer zeta, negative overlaps count as 0."""

    zeta: float
    name: ClassVar[str] = "polynomial"

    def value(self, s: Any) -> Any:
        """See `Kernel`."""
        return self._positive(s) ** self.zeta

    def slope(self, s: Any) -> Any:
        """See `Kernel`."""
        return self.zeta * self._positive(s) ** (self.zeta - 1)

    @property
    def parameters(self) -> dict[str, float]:
        """See `Kernel`."""
        return {"zeta": self.zeta}

    core_parameters = parameters

    def _positive(self, s: Any) -> Any:
        return s if self.zeta == round(self.zeta) else np.maximum(s, 0.0)


@dataclass(frozen=True)
class GaussianKernel:
    """k(s) = exp(-|p - p'|^2 / (2 length_scale^2)), where |p - p'|^2 = 2 - 2s for normalised features."""

    length_scale: float
    name: ClassVar[str] = "gaussian"

    def value(self, s: Any) -> Any:
        """See `Kernel`."""
        return np.exp((s - 1.0) / self.length_scale**2)

    def slope(self, s: Any) -> Any:
        """See `Kernel`."""
        return self.value(s) / self.length_scale**2

    @property
    def parameters(self) -> dict[str, float]:
        """See `Kernel`."""
        return {"length_scale": self.length_scale}

    @property
    def core_parameters(self) -> dict[str, float]:
        """See `Kernel`."""
        return {"zeta": 1.0, "per_square": self.length_scale**-2}


KERNELS: dict[str, Any] = {kind.name: kind for kind in (PolynomialKernel, GaussianKernel)}


def make_kernel(name: str, **parameters: float) -> Kernel:
    """Create a kernel by name; parameters that it does not have are ignored.

    Examples
    --------
    >>> make_kernel("polynomial", zeta=4.0, length_scale=0.5)
    PolynomialKernel(zeta=4.0)
    """
    return KERNELS[name](**{key: float(parameters[key]) for key in parameter_names(name)})


def parameter_names(name: str) -> list[str]:
    """Names of the parameters of a kernel."""
    return [field.name for field in fields(KERNELS[name])]


def dot_product_kernel(first: np.ndarray, second: np.ndarray, energy_scale: float, zeta: float) -> np.ndarray:
    """energy_scale^2 (p . p')^zeta for normalised features (n, f) and (m, f): (n, m) eV^2."""
    return energy_scale**2 * PolynomialKernel(zeta).value(first @ second.T)


def expanded(scales: float | tuple[float, ...], n_blocks: int) -> tuple[float, ...]:
    """Expand energy scales to one per block, from a single number or from one per block."""
    if isinstance(scales, int | float | np.number):
        return (float(scales),) * n_blocks
    if len(scales) != n_blocks:
        raise ValueError(f"{len(scales)} energy scales for {n_blocks} blocks of sparse points")
    return tuple(map(float, scales))
