"""The descriptor of `examples/own_descriptor.py`, and what goes wrong with descriptors of one's own, one thing each."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from own_descriptor import RadialFunctions

PATH = "own_descriptor:RadialFunctions"


class OfAnotherShape(RadialFunctions):
    def compute(self, pairs):
        return super().compute(pairs)[:, :-1]


class Random(RadialFunctions):
    def compute(self, pairs):
        return super().compute(pairs) * (1 + 1e-12 * np.random.default_rng().random())


class HalfSlopes(RadialFunctions):
    def vjp(self, pairs, cotangent):
        return 0.5 * super().vjp(pairs, cotangent)


class Turned(RadialFunctions):
    """Its pullback gives the right change along a bond's length, in another direction."""

    def vjp(self, pairs, cotangent):
        return super().vjp(pairs, cotangent)[:, [1, 0, 2]]


class OtherJacobian(RadialFunctions):
    def jacobian(self, pairs):
        return 1.01 * super().jacobian(pairs)


class NotItsOwn(RadialFunctions):
    """Features of an atom depend on bonds between others."""

    def compute(self, pairs):
        features = super().compute(pairs)
        return features + 0.01 * features.sum()


class AlongTheX(RadialFunctions):
    def compute(self, pairs):
        return super().compute(pairs) + np.bincount(pairs.i, pairs.vectors[:, 0] ** 2, minlength=pairs.n_atoms)[:, None]


class Counting(RadialFunctions):
    """Features depend on the order of atoms."""

    def compute(self, pairs):
        return super().compute(pairs) * (1 + 0.1 * np.arange(pairs.n_atoms)[:, None])


class Hard(RadialFunctions):
    """No cutoff function."""

    def _functions(self, pairs):
        values, slopes, columns = super()._functions(pairs)
        return values + 1.0, slopes, columns


class Kinked(RadialFunctions):
    """A cutoff function that ends with a slope."""

    def _functions(self, pairs):
        values, slopes, columns = super()._functions(pairs)
        return values + 1 - pairs.distances[:, None] / self.cutoff, slopes - 1 / self.cutoff, columns


class NotAlone(RadialFunctions):
    def compute(self, pairs):
        with np.errstate(invalid="ignore"):
            return super().compute(pairs) * (pairs.n_pairs / np.float64(pairs.n_pairs))


@dataclass(frozen=True)
class Forgetful(RadialFunctions):
    def state(self):
        return {"cutoff": self.cutoff}


class Unpicklable(RadialFunctions):
    def __reduce__(self):
        return type(self), (self.species, 4.0)


CAUGHT_BY = {
    OfAnotherShape: "arrays have their shapes and are finite",
    Random: "the same arguments give the same bits",
    HalfSlopes: "vjp is the derivative by positions",
    Turned: "vjp is the derivative by strain",
    OtherJacobian: "jacobian and vjp agree",
    NotItsOwn: "features are of an atom's own neighbours",
    AlongTheX: "invariant under rotation",
    Counting: "invariant under permutation",
    Hard: "continuous at the cutoff",
    Kinked: "slopes vanish at the cutoff",
    NotAlone: "lone atoms have features",
    Forgetful: "files keep it to the last bit",
    Unpicklable: "pickling keeps it to the last bit",
}
