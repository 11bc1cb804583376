"""A step of a server as far as it has come: what beads were answered, by which version of the model, and which were labelled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from ..drivers.ase import ase_results
from ..drivers.ipi_evaluator import evaluation_of
from ..drivers.ipi_protocol import Evaluation
from ..models.prediction import Prediction, Uncertainty
from ..models.sparse_gp import SparseGP
from ..uncertainty.variances import Members
from .campaign import Answer
from .learner import Before, Learner
from .log_format import Step, frame_text
from .policy import Decision

WALKER = "i-pi"


@dataclass(frozen=True)
class Version:
    """A version of the model, which may not be the newest.

    Parameters
    ----------
    model : SparseGP or None
        None before there is one.
    number, n_labels : int
        Model version, and the labels that it was made of.
    """

    model: SparseGP | None
    number: int
    n_labels: int

    @classmethod
    def newest(cls, learner: Learner) -> Version:
        """What the learner knows now."""
        return cls(learner.model, learner.model_version, learner.n_labels)


@dataclass(frozen=True)
class View:
    """What is thought of a bead; without a model only that it needs a label.

    Parameters
    ----------
    atoms : ase.Atoms
        Overwritten by the server's next structures.
    decision : Decision
    version : Version
        That predicted.
    prediction : Prediction or None
    members : Members or None
        Of the committee.
    before : Before or None
        What a label would be compared with, where one is wanted.
    """

    atoms: Atoms
    decision: Decision
    version: Version
    prediction: Prediction | None = None
    members: Members | None = None
    before: Before | None = None

    @property
    def urgency(self) -> float:
        """Its largest expected error over the limit; infinite without a model."""
        return self.decision.urgency

    def evaluation(self, learned: bool) -> Evaluation:
        """What the server is answered."""
        return evaluation_of(self.prediction, self.members, self.version.number, self.version.n_labels, learned)

    def frame(self, step: int, number: int, is_labelled: bool) -> str:
        """For the trajectory: bead `number` of a step, in the order in which they came."""
        info = {"step": step, "bead": number, "labelled": is_labelled, "model_version": self.version.number}
        return frame_text(self.atoms, ase_results(self.prediction), Uncertainty(self.prediction), info)


def have_come(labels: Iterable[tuple[Decision, Answer]]) -> bool:
    """Whether any of these labels did not fail."""
    return any(answer.atoms is not None for _, answer in labels)


@dataclass
class BeadStep:
    """What has come of a step, by the server's numbers of the messages, and how it was answered.

    Parameters
    ----------
    requests : list of int
        Numbers of its messages, those that were answered before a restart included.
    version : Version or None
        That the first answer came from.
    views : list of View
        Since a restart.
    labels : list of (Decision, Answer)
        With the decisions that led to them.
    frames : list of str
        For the trajectory.
    seconds : float
    first : (n_atoms, 3) array or None
        Positions of the structure with the lowest number, A.
    """

    requests: list[int] = field(default_factory=list)
    version: Version | None = None
    views: list[View] = field(default_factory=list)
    labels: list[tuple[Decision, Answer]] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    seconds: float = 0.0
    first: np.ndarray | None = None

    @property
    def is_learned(self) -> bool:
        """Whether a label has come of it."""
        return have_come(self.labels)

    def take(self, request: int, views: Sequence[View], seconds: float) -> None:
        """Note the answers to a message."""
        if self.first is None or request < min(self.requests):
            self.first = views[0].atoms.positions.copy()
        self.version = self.version or views[0].version
        self.requests.append(request)
        self.views += views
        self.seconds += seconds

    def describe(self, number: int, learner: Learner, n_queued: int) -> Step:
        """The row of the log: energies are means over the beads, uncertainties those of the worst."""
        worst = max(self.views, key=lambda view: view.urgency)
        decision, answer = self.labels[0] if self.labels else (worst.decision, None)
        lesson = None if answer is None else answer.lesson
        return Step(
            step=number,
            n_steps=None,
            time_fs=None,
            temperature_K=None,
            energy_eV=float(np.mean([view.prediction.energy for view in self.views])),
            max_energy_std_eV=float(max(view.prediction.energies_std.max() for view in self.views)),
            threshold=decision.threshold,
            labelled=self.is_learned,
            model_version=learner.model_version,
            n_labels=learner.n_labels,
            seconds=self.seconds,
            expected_error_eV_per_A=decision.expected,
            force_error_eV_per_A=None if lesson is None else lesson.force_error,
            novelty=decision.novelty,
            reason="failed" if answer is not None and answer.failure else decision.reason,
            walker=WALKER,
            n_queued=n_queued,
        )
