"""Functions of one variable with automatic first and second derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Jet:
    """Values, slopes and curvatures of a function at the same places, as arrays of equal shape.

    Examples
    --------
    >>> x = Jet.variable(np.array([2.0]))
    >>> float((x * x).slope[0])
    4.0
    """

    value: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray

    @classmethod
    def variable(cls, x: np.ndarray) -> Jet:
        """The variable itself at `x`."""
        x = np.asarray(x, float)
        return cls(x, np.ones_like(x), np.zeros_like(x))

    def array(self) -> np.ndarray:
        """(3, ...) values, slopes, curvatures."""
        return np.array([self.value, self.slope, self.curvature])

    def of(self, f0: np.ndarray, f1: np.ndarray, f2: np.ndarray) -> Jet:
        """Composition f(self), from the value and derivatives of f at `self.value`."""
        return Jet(f0, f1 * self.slope, f2 * self.slope**2 + f1 * self.curvature)

    def __add__(self, other: Jet | float) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value + other, self.slope, self.curvature)
        return Jet(self.value + other.value, self.slope + other.slope, self.curvature + other.curvature)

    def __mul__(self, other: Jet | float) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value * other, self.slope * other, self.curvature * other)
        return Jet(
            self.value * other.value,
            self.slope * other.value + self.value * other.slope,
            self.curvature * other.value + 2 * self.slope * other.slope + self.value * other.curvature,
        )

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Jet:
        return self * -1.0

    def __sub__(self, other: Jet | float) -> Jet:
        return self + (-other)

    def __rsub__(self, other: float) -> Jet:
        return -self + other

    def __pow__(self, n: int) -> Jet:
        x = self.value
        return self.of(x**n, n * x ** max(n - 1, 0), n * (n - 1) * x ** max(n - 2, 0))

    def polynomial(self, coefficients: np.ndarray) -> Jet:
        """sum_k coefficients[k] self^k."""
        p = np.polynomial.Polynomial(coefficients)
        return self.of(p(self.value), p.deriv()(self.value), p.deriv(2)(self.value))

    def where(self, inside: np.ndarray, outside: float = 0.0) -> Jet:
        """This function where `inside` holds, a constant elsewhere."""
        return Jet(
            np.where(inside, self.value, outside),
            np.where(inside, self.slope, 0.0),
            np.where(inside, self.curvature, 0.0),
        )


def exp(x: Jet) -> Jet:
    """e^x."""
    value = np.exp(x.value)
    return x.of(value, value, value)


def log(x: Jet) -> Jet:
    """Natural logarithm, x > 0."""
    return x.of(np.log(x.value), 1 / x.value, -1 / x.value**2)


def cos(x: Jet) -> Jet:
    """cos x."""
    return x.of(np.cos(x.value), -np.sin(x.value), -np.cos(x.value))


def tanh(x: Jet) -> Jet:
    """tanh x."""
    value = np.tanh(x.value)
    slope = 1 - value**2
    return x.of(value, slope, -2 * value * slope)


def arcsin(x: Jet) -> Jet:
    """arcsin x, |x| < 1."""
    root = 1 / np.sqrt(1 - x.value**2)
    return x.of(np.arcsin(x.value), root, x.value * root**3)


def inverse(x: Jet) -> Jet:
    """1 / x."""
    return x.of(1 / x.value, -1 / x.value**2, 2 / x.value**3)


def absolute(x: Jet) -> Jet:
    """|x|."""
    sign = np.sign(x.value)
    return x.of(np.abs(x.value), sign, np.zeros_like(sign))
