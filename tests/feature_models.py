"""Models of whole structures for tests: the one of `examples/feature_model.py`, and a local one that can be broken."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

from feature_model import MessagePassing, labelled
from own_descriptor import RadialFunctions

from mlpot.descriptors.model_features import FeatureModel
from mlpot.neighbours import find_pairs

__all__ = ["Local", "MessagePassing", "labelled"]


class Local(FeatureModel):
    """The descriptor of `examples/own_descriptor.py` as a model of whole structures."""

    species, cutoff = (29, 79), 4.0

    def __init__(self, fault=""):
        self.own, self.fault = RadialFunctions((29, 79), cutoff=4.0), fault
        self.n_features = self.own.n_features

    def compute(self, atoms):
        if self.fault == "raises":
            raise RuntimeError("no weights")
        features = self.own.compute(find_pairs(atoms, self.cutoff))
        return features[:1] if self.fault == "shape" else features

    def vjp(self, atoms, cotangent):
        pairs = find_pairs(atoms, self.cutoff)
        found = self.own.vjp(pairs, cotangent)
        gradients, strain = -pairs.forces(found), -pairs.virial(found)
        if self.fault == "moved":
            gradients[0] += 1.0
        return (gradients[:, :2] if self.fault == "vjp shape" else gradients), strain
