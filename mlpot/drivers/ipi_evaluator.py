"""What an i-PI client answers with: the seam behind which a fixed model, or one that learns, computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np
from ase import Atoms

from ..errors import ConfigError
from ..models.compiled_model import CompiledModel
from ..models.prediction import Prediction, least_certain
from ..models.sparse_gp import SparseGP
from ..neighbours import NeighbourList, Pairs
from ..structures import volume_of
from ..uncertainty.variances import Members
from ..units import BOHR, HARTREE
from .ipi_protocol import Evaluation
from .knowledge import Watch

Committee = Literal["none", "std", "members"]
"""What `<ffcommittee>` is told: nothing, two members whose standard deviation equals the energy's and whose forces are the
same, or an ensemble with energies, forces and virials of its own, see `CompiledModel.predict_members`."""
IDLE = 2
"""Rounds over all lists after which an unused neighbour list is dropped."""


class Evaluator(Protocol):
    """Computes what i-PI asks for."""

    identify: bool
    """Whether to be told which structures of the server come; it costs a message more."""

    def evaluate(self, beads: Sequence[Atoms], request: int | None = None) -> Sequence[Evaluation]:
        """One evaluation for each bead, all of them by the same potential.

        The beads are overwritten when the next ones come: copy what is to be kept. With `identify`, `request` is the server's
        number of the first of them, which is the same in every step. Any MlpotError ends the client, and the server then
        waits for another.
        """


def extras(
    prediction: Prediction, model_version: int = 0, n_labelled: int = 0, learned: bool = False
) -> dict[str, Any]:
    """What i-PI is told beside forces: always these keys, in atomic units; null for what a model does not know.

    `max_force_uncertainty` is the deviation of the least certain force.
    """
    energy, forces = prediction.energy_std, prediction.forces_std
    return {
        "energy_uncertainty": None if energy is None else energy / HARTREE,
        "max_force_uncertainty": None if forces is None else least_certain(forces) * (BOHR / HARTREE),
        "model_version": model_version,
        "n_labelled": n_labelled,
        "learned": learned,
    }


def two_members(p: Prediction) -> Members:
    """E + s/sqrt(2) and E - s/sqrt(2), whose mean is the energy E and whose standard deviation, with one degree of freedom,
    its own s. Both have the model's forces and virial."""
    shift = p.energy_std / np.sqrt(2) * np.array([1.0, -1.0])
    return Members(p.energy + shift, np.stack([p.forces] * 2), np.stack([p.virial] * 2))


def committee_extras(members: Members) -> dict[str, Any]:
    """What `<ffcommittee>` with `parse_json` reads."""
    n = len(members.energies)
    return {
        "committee_pot": (members.energies / HARTREE).tolist(),
        "committee_force": (members.forces * (BOHR / HARTREE)).reshape(n, -1).tolist(),
        "committee_virial": (members.virials / HARTREE).reshape(n, 9).tolist(),
    }


def predict_bead(
    model: CompiledModel, pairs: Pairs, volume: float | None, committee: Committee
) -> tuple[Prediction, Members | None]:
    """What a model says, and the members of the committee; None of them for "none"."""
    if committee == "members":
        return model.predict_members(pairs, volume)
    prediction = model.predict_pairs(pairs, volume, uncertainty=True)
    return prediction, two_members(prediction) if committee == "std" else None


def evaluation_of(
    prediction: Prediction,
    members: Members | None,
    model_version: int = 0,
    n_labelled: int = 0,
    learned: bool = False,
) -> Evaluation:
    """What i-PI is answered."""
    told = extras(prediction, model_version, n_labelled, learned)
    if members is not None:
        told |= committee_extras(members)
    return Evaluation(prediction.energy, prediction.forces, prediction.virial, told)


def check_committee(committee: str) -> None:
    """ConfigError unless it is a `Committee`."""
    if committee not in get_args(Committee):
        raise ConfigError(f"committee = {committee!r}: must be one of {', '.join(get_args(Committee))}")


class BeadNeighbours:
    """A neighbour list for each bead, found again by where its atoms are, as a server does not say which bead it sends.

    Beads that are near each other share a list; one that has moved too far gets a new one.
    """

    def __init__(self, cutoff: float):
        self.cutoff = cutoff
        self._lists: list[tuple[NeighbourList, int]] = []
        """With the number of the call that each served last; the first in line waited longest, and is likely to be next."""
        self._calls = 0

    @property
    def n_lists(self) -> int:
        return len(self._lists)

    def update(self, atoms: Atoms) -> Pairs:
        """See `NeighbourList.update`."""
        self._calls += 1
        found = next((k for k, (own, _) in enumerate(self._lists) if own.serves(atoms)), None)
        neighbours = NeighbourList(self.cutoff) if found is None else self._lists.pop(found)[0]
        oldest = self._calls - IDLE * (1 + len(self._lists))
        self._lists = [(own, last) for own, last in self._lists if last >= oldest]
        self._lists.append((neighbours, self._calls))
        return neighbours.update(atoms)


class ModelEvaluator:
    """A fixed model, which warns when structures are beyond what it knows (see `knowledge`).

    Parameters
    ----------
    model : SparseGP or CompiledModel
    committee : str
        See `Committee`.

    Raises
    ------
    ConfigError
        If there is no such committee, or an imported model is asked for members.
    """

    identify = False

    def __init__(self, model: SparseGP | CompiledModel, committee: Committee = "none"):
        check_committee(committee)
        self.model = model.compiled if isinstance(model, SparseGP) else model
        if committee == "members" and self.model.source.factor is None:
            raise ConfigError("an imported model knows nothing of its data: it has no members; take committee = 'std'")
        self.committee = committee
        self._serving, self._neighbours = self.model, BeadNeighbours(model.cutoff)
        self._watch = Watch()

    def check(self, template: Atoms) -> None:
        """UnknownSpeciesError for elements that the model does not know: better said before a server waits."""
        self._serve(template)

    def _serve(self, atoms: Atoms) -> None:
        serving = self.model.covering(atoms.numbers)
        if serving is not self._serving:
            self._serving, self._neighbours = serving, BeadNeighbours(serving.cutoff)

    def evaluate(self, beads: Sequence[Atoms], request: int | None = None) -> Sequence[Evaluation]:
        """See `Evaluator`; StructureError and UnknownSpeciesError as in `SparseGP.predict`."""
        return [self._evaluation(atoms) for atoms in beads]

    def _evaluation(self, atoms: Atoms) -> Evaluation:
        self._serve(atoms)
        pairs, volume = self._neighbours.update(atoms), volume_of(atoms)
        prediction, members = predict_bead(self._serving, pairs, volume, self.committee)
        self._watch.look(prediction)
        return evaluation_of(prediction, members)
