"""Evaluators, which compute the answers of an i-PI client: their interface, and the evaluator of a fixed model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np
from ase import Atoms

from ..errors import ConfigError
from ..models.compiled_model import CompiledModel
from ..models.prediction import Prediction, least_certain
from ..models.sparse_gp import SparseGP
from ..models.tensors import TargetPrediction
from ..neighbours import NeighbourList, Pairs
from ..structures import volume_of
from ..uncertainty.variances import Members
from ..units import BOHR, HARTREE
from .ipi_protocol import Evaluation
from .knowledge import Watch

Committee = Literal["none", "std", "members"]
"""Data sent to `<ffcommittee>`: nothing; two members with the same forces, whose energies have the standard deviation of the
energy; or an ensemble with its own energies, forces and virials, see `CompiledModel.predict_members`."""
ATOMIC = {"dipole": BOHR, "polarizability": BOHR**3}
"""Atomic units of known targets, in mlpot's."""
IDLE = 2
"""Number of rounds through all neighbour lists after which an unused list is deleted."""


class Evaluator(Protocol):
    """Computes what i-PI asks for."""

    identify: bool
    """Whether `evaluate` needs the numbers of the server's structures, which takes an additional message."""

    def evaluate(self, beads: Sequence[Atoms], request: int | None = None) -> Sequence[Evaluation]:
        """One evaluation for each bead, all from the same potential.

        The beads are overwritten by the next ones, so copy what is to be kept. With `identify`, `request` is the server's number of
        the first bead, which is the same in every step. Any MlpotError ends the client, and the server then waits for another.
        """


def extras(
    prediction: Prediction, model_version: int = 0, n_labelled: int = 0, learned: bool = False
) -> dict[str, Any]:
    """Extra data sent to i-PI in addition to forces: always these keys, in atomic units; null for what a model cannot predict,
    and the targets of the model (`target_extras`).

    `max_force_uncertainty` is the standard deviation of the least certain force, `max_novelty` the largest `Prediction.novelty`.
    """
    energy, forces = prediction.energy_std, prediction.forces_std
    return {
        "energy_uncertainty": None if energy is None else energy / HARTREE,
        "max_force_uncertainty": None if forces is None else least_certain(forces) * (BOHR / HARTREE),
        "max_novelty": None if prediction.novelty is None else float(np.max(prediction.novelty, initial=0.0)),
        "model_version": model_version,
        "n_labelled": n_labelled,
        "learned": learned,
        **target_extras(prediction.targets),
    }


def target_extras(targets: Mapping[str, TargetPrediction]) -> dict[str, Any]:
    """Targets of a model under their names, each with "NAME_uncertainty"; dipoles and polarisabilities in atomic units, others in
    their own. With a dipole come the Born charges, "BEC", (3 n_atoms, 3) e: rows are coordinates, columns components of the dipole,
    as i-PI's driven dynamics reads them."""
    found: dict[str, Any] = {}
    for name, p in targets.items():
        scale = ATOMIC.get(name, 1.0)
        found[name] = (p.value / scale).tolist()
        found[f"{name}_uncertainty"] = None if p.std is None else (p.std / scale).tolist()
        if name == "dipole" and p.gradients is not None:
            found["BEC"] = p.gradients.reshape(-1, 3).tolist()
    return found


def two_members(p: Prediction) -> Members:
    """Two members with the energies E + s/sqrt(2) and E - s/sqrt(2): their mean is the energy E, and their sample standard deviation
    is its uncertainty s. Both have the forces and the virial of the model."""
    shift = p.energy_std / np.sqrt(2) * np.array([1.0, -1.0])
    return Members(p.energy + shift, np.stack([p.forces] * 2), np.stack([p.virial] * 2))


def committee_extras(members: Members) -> dict[str, Any]:
    """The keys that `<ffcommittee>` with `parse_json` reads."""
    n = len(members.energies)
    return {
        "committee_pot": (members.energies / HARTREE).tolist(),
        "committee_force": (members.forces * (BOHR / HARTREE)).reshape(n, -1).tolist(),
        "committee_virial": (members.virials / HARTREE).reshape(n, 9).tolist(),
    }


def predict_bead(
    model: CompiledModel, pairs: Pairs, atoms: Atoms, committee: Committee
) -> tuple[Prediction, Members | None]:
    """The prediction of a model, and the members of the committee; None for committee "none"."""
    if committee == "members":
        prediction, members = model.predict_members(pairs, volume_of(atoms), atoms)
        return model.with_targets(prediction, atoms, uncertainty=True), members
    prediction = model.predict_pairs(pairs, volume_of(atoms), uncertainty=True, atoms=atoms)
    prediction = model.with_targets(prediction, atoms, uncertainty=True)
    return prediction, two_members(prediction) if committee == "std" else None


def evaluation_of(
    prediction: Prediction,
    members: Members | None,
    model_version: int = 0,
    n_labelled: int = 0,
    learned: bool = False,
) -> Evaluation:
    """The answer to i-PI."""
    more = extras(prediction, model_version, n_labelled, learned)
    if members is not None:
        more |= committee_extras(members)
    return Evaluation(prediction.energy, prediction.forces, prediction.virial, more)


def check_committee(committee: str) -> None:
    """ConfigError unless it is a `Committee`."""
    if committee not in get_args(Committee):
        raise ConfigError(f"committee = {committee!r}: must be one of {', '.join(get_args(Committee))}")


class BeadNeighbours:
    """A neighbour list for each bead, found by the positions of its atoms, since a server does not say which bead it sends.

    Beads that are close to each other share a list; a bead that has moved too far gets a new one.
    """

    def __init__(self, cutoff: float):
        self.cutoff = cutoff
        self._lists: list[tuple[NeighbourList, int]] = []
        """Lists with the number of the last call that used them; the first one has been unused for longest and is likely to be
        next."""
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
    """A fixed model, which warns about structures that are unlike its training data (see `knowledge`).

    Parameters
    ----------
    model : SparseGP or CompiledModel
    committee : str
        See `Committee`.

    Raises
    ------
    ConfigError
        If there is no such committee, or an imported model should provide members or an uncertainty that it does not have.
    """

    identify = False

    def __init__(self, model: SparseGP | CompiledModel, committee: Committee = "none"):
        check_committee(committee)
        self.model = model.compiled if isinstance(model, SparseGP) else model
        has_prior = all(term.has_prior for term in self.model.source.terms)
        if committee == "members" and self.model.source.factor is None:
            other = "std" if has_prior else "none"
            raise ConfigError(
                "this model was imported without its training data and has no ensemble; "
                f"use committee = {other!r} in place of 'members'"
            )
        if committee == "std" and not has_prior:
            raise ConfigError("committee = 'std': this imported potential states no uncertainty; use committee = 'none'")
        self.committee = committee
        self._serving, self._neighbours = self.model, BeadNeighbours(model.cutoff)
        self._watch = Watch()

    def check(self, template: Atoms) -> None:
        """UnknownSpeciesError for elements that the model does not know, before a server has to wait."""
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
        prediction, members = predict_bead(self._serving, self._neighbours.update(atoms), atoms, self.committee)
        self._watch.look(prediction)
        return evaluation_of(prediction, members)
