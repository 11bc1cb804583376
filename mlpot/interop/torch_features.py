"""Features of a network in PyTorch, with derivatives by automatic differentiation.

torch is imported when a network is made, never before: mlpot does not depend on it.
"""

from __future__ import annotations

import importlib
import threading
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from ase import Atoms

from ..descriptors.model_features import FeatureModel
from ..errors import DescriptorError


def load_package(name: str, install: str) -> Any:
    """A module that mlpot does not depend on.

    Raises
    ------
    DescriptorError
        If it cannot be imported, with what to install.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DescriptorError(f"{name} cannot be imported ({error}); pip install {install}") from error


class TorchFeatures(FeatureModel):
    """Base of adapters: a class that derives from it says how features follow from positions and cell, in tensors.

    Its `__init__` sets `species`, `cutoff` and `n_features`, and calls `super().__init__()`. Networks work in double precision
    (`network.double()`): in single precision forces are no derivatives of the energy to the digits that checks ask for.

    Raises
    ------
    DescriptorError
        If torch is not installed.

    Examples
    --------
    See `mlpot.interop.chgnet.ChgnetFeatures` for a complete one.
    """

    install: ClassVar[str] = "torch"
    """Packages to install for this network, for `pip install`."""

    def __init__(self) -> None:
        self._torch = load_package("torch", self.install)
        self._torch.use_deterministic_algorithms(True)
        # fits call from several threads: a network, which may keep notes of a pass, is run by one of them at a time
        self._lock, self._local = threading.Lock(), threading.local()

    @abstractmethod
    def features(self, atoms: Atoms, positions: Any, cell: Any) -> Any:
        """Features as a tensor (n_atoms, n_features), differentiable by positions and cell.

        Parameters
        ----------
        atoms : ase.Atoms
            For elements, periodic directions, and the neighbours that the values imply; numbers are taken from the tensors.
        positions : torch.Tensor
            (n_atoms, 3), A, double.
        cell : torch.Tensor
            (3, 3), A, double; rows are vectors.
        """

    def compute(self, atoms: Atoms) -> np.ndarray:
        """See `FeatureModel`."""
        return self._seen(atoms)[0].detach().numpy()

    def vjp(self, atoms: Atoms, cotangent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `FeatureModel`."""
        features, positions, strain = self._seen(atoms)
        given = self._torch.as_tensor(np.ascontiguousarray(cotangent))
        found = self._torch.autograd.grad(
            features, (positions, strain), given, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return found[0].numpy(), found[1].numpy()

    def _seen(self, atoms: Atoms) -> tuple[Any, Any, Any]:
        """Features, positions and strain; each thread keeps its last result, since several cotangents follow each other."""
        key = (atoms.numbers.tobytes(), atoms.positions.tobytes(), atoms.cell.array.tobytes(), atoms.pbc.tobytes())
        if getattr(self._local, "key", None) != key:
            torch = self._torch
            positions = torch.tensor(atoms.positions, dtype=torch.float64, requires_grad=True)
            strain = torch.zeros((3, 3), dtype=torch.float64, requires_grad=True)
            deformation = torch.eye(3, dtype=torch.float64) + (strain + strain.T) / 2
            cell = torch.tensor(atoms.cell.array, dtype=torch.float64) @ deformation
            with self._lock:
                features = self.features(atoms, positions @ deformation, cell)
            self._local.key, self._local.seen = key, (features, positions, strain)
        return self._local.seen
