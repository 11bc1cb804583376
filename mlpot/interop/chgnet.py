"""Features of CHGNet, a universal potential whose weights ship with its package: `pip install chgnet`.

Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3.

    [[model.terms]]
    type = "features"
    model = "mlpot.interop.chgnet:ChgnetFeatures"
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import numpy as np
from ase import Atoms
from ase.cell import Cell

from ..errors import DescriptorError
from .torch_features import TorchFeatures, load_package

MARGIN = 1.0
"""Empty space beyond the cutoff along directions that are not periodic, A."""


class ChgnetFeatures(TorchFeatures):
    """The 64 features of an atom from which CHGNet reads off the energy: after the last convolution, normalised by the network.

    Parameters
    ----------
    model_name : str
        Weights: "0.3.0", or "r2scan".

    Raises
    ------
    DescriptorError
        If torch or chgnet is not installed, or there are no weights of that name; if an atom has no neighbours within the cutoff.
    """

    install = "torch chgnet"

    def __init__(self, model_name: str = "0.3.0"):
        super().__init__()
        networks = load_package("chgnet.model.model", self.install)
        self._structure = load_package("pymatgen.core", self.install).Structure
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it announces its device
                network = networks.CHGNet.load(model_name=model_name, use_device="cpu", verbose=False)
        except ValueError as error:
            raise DescriptorError(f'model_name = {model_name!r}: {error}; choose "0.3.0" or "r2scan"') from error
        self._network, self._batch = network.double().eval(), networks.BatchedGraph
        self._network.graph_converter.set_isolated_atom_response("error")
        self.species = tuple(range(1, 1 + self._network.atom_embedding.embedding.num_embeddings))
        self.cutoff = float(self._network.graph_converter.atom_graph_cutoff)
        self.n_features = self._network.mlp.layers[0].in_features

    def features(self, atoms: Atoms, positions: Any, cell: Any) -> Any:
        """See `TorchFeatures`."""
        box = self._box(atoms, cell)
        graph = self._network.graph_converter(
            self._structure(box.detach().numpy(), atoms.numbers, positions.detach().numpy(), coords_are_cartesian=True)
        )
        # the graph as it is, but of our tensors: in double precision, and differentiable by the strain
        graph.lattice, graph.atom_frac_coord = box, positions @ self._torch.linalg.inv(box)
        graph.neighbor_image = graph.neighbor_image.double()
        bases = self._network.bond_basis_expansion, self._network.angle_basis_expansion
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # its volume, which is not used, loses its derivative
            batch = self._batch.from_graphs([graph], *bases, compute_stress=False)
        seen: list[Any] = []
        hook = self._network.mlp.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
        try:
            self._network._compute(batch)
        finally:
            hook.remove()
        return seen[0]

    def _box(self, atoms: Atoms, cell: Any) -> Any:
        """Three cell vectors: along directions that are not periodic, so long that images do not see each other."""
        if atoms.pbc.all():
            return cell
        rows = Cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)).complete().array
        size = 2 * float(np.linalg.norm(np.ptp(atoms.positions, axis=0))) + self.cutoff + MARGIN
        box = [cell[k] if atoms.pbc[k] else self._torch.tensor(rows[k] * size / np.linalg.norm(rows[k])) for k in range(3)]
        return self._torch.stack(box)
