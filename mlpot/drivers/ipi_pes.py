"""mlpot as a custom PES of i-PI: `i-pi-driver-py -m custom -P FILE -o model=si.h5,template=init.xyz`, or in `<ffdirect>`.

i-PI loads this file by its path, not as a part of mlpot. `mlpot ipi-pes` says where it is. The client, `mlpot driver`, gives
the same numbers, and unlike i-PI's own driver it can be killed and restarted under a run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from mlpot.drivers.ipi_evaluator import Committee, ModelEvaluator
from mlpot.drivers.ipi_protocol import to_angstrom
from mlpot.errors import ProtocolError, counted
from mlpot.models.files import load_model
from mlpot.structures import read_structures

__DRIVER_NAME__ = "mlpot"
__DRIVER_CLASS__ = "MlpotPES"

Result = tuple[float, np.ndarray, np.ndarray, str]


class MlpotPES:
    """Energy, forces, virial and extras of structures of i-PI, in atomic units.

    Parameters
    ----------
    model, template : str
        Files: a model, and the structure that i-PI starts from, atoms in the same order, with cell and pbc.
    committee : str
        See `ModelEvaluator`.
    trust_baseline : bool
        See `load_model`.
    verbosity, verbose
        i-PI gives them; mlpot says nothing here.

    Raises
    ------
    ModelFileError, DataError
        If a file cannot be read; UnknownSpeciesError if the model does not know an element of the template.
    """

    def __init__(
        self,
        model: str,
        template: str,
        committee: Committee = "none",
        trust_baseline: bool = False,
        verbosity: Any = None,
        verbose: Any = None,
    ):
        self._evaluator = ModelEvaluator(load_model(model, trust_baseline is True), committee)
        frame = read_structures(template)[-1]
        self._evaluator.check(frame)
        self._atoms = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)

    def __call__(
        self, cell: np.ndarray | list[np.ndarray], pos: np.ndarray | list[np.ndarray]
    ) -> Result | list[Result]:
        """Evaluate a cell (3, 3), whose columns are vectors, and positions (n_atoms, 3), in bohr, or lists of them.

        Raises
        ------
        ProtocolError
            If the number of atoms is not the template's; EvaluationError and StructureError as from the client.
        """
        if isinstance(cell, list):
            return [self._compute(*structure) for structure in zip(cell, pos, strict=True)]
        return self._compute(cell, np.asarray(pos))

    def _compute(self, cell: np.ndarray, pos: np.ndarray) -> Result:
        if pos.shape != (len(self._atoms), 3):
            raise ProtocolError(
                f"i-PI has positions of shape {pos.shape}, the template {counted(len(self._atoms), 'atom')}; make the template "
                "from the structure that i-PI starts from, atoms in the same order"
            )
        structure = to_angstrom(np.asarray(cell)[None], pos[None])
        self._atoms.cell[:] = structure.cells[0]
        self._atoms.positions[:] = structure.positions[0]
        return self._evaluator.evaluate([self._atoms])[0].atomic(len(self._atoms))
