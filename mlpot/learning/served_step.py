"""The present step of a server: which beads were answered, by which version of the model, and which were labelled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..drivers.ase import ase_results
from ..drivers.ipi_evaluator import evaluation_of
from ..drivers.ipi_protocol import Evaluation
from ..models.prediction import Prediction, Uncertainty
from ..models.sparse_gp import SparseGP
from ..structures import bare_structure
from ..uncertainty.variances import Members
from .campaign import Answer
from .cycle import Assessment, LearningCycle
from .learner import Learner
from .log_format import Step, frame_text
from .policy import Decision
from .uncertainties import Uncertainties

WALKER = "i-pi"


@dataclass(frozen=True)
class ModelVersion:
    """A version of the model, not necessarily the newest one.

    Parameters
    ----------
    model : SparseGP or None
        None before there is one.
    number, n_labels : int
        Number of the version, and of the labels it was fitted to.
    """

    model: SparseGP | None
    number: int
    n_labels: int

    @classmethod
    def newest(cls, learner: Learner) -> ModelVersion:
        """The present model of the learner."""
        return cls(learner.model, learner.model_version, learner.n_labels)


@dataclass(frozen=True)
class BeadAnswer:
    """A bead and how it is answered; before there is a model, only that it needs a label.

    Parameters
    ----------
    assessment : Assessment
        Its atoms are overwritten by the server's next structures.
    version : ModelVersion
        The version of the model that predicted.
    members : Members or None
        Members of the committee.
    """

    assessment: Assessment
    version: ModelVersion
    members: Members | None = None

    @property
    def decision(self) -> Decision:
        """Decision of the assessment."""
        return self.assessment.decision

    @property
    def prediction(self) -> Prediction:
        """Prediction of the assessment, once there is a model."""
        return self.assessment.predicted

    def evaluation(self, learned: bool) -> Evaluation:
        """The answer to the server."""
        return evaluation_of(self.prediction, self.members, self.version.number, self.version.n_labels, learned)

    def frame(self, step: int, number: int, is_labelled: bool) -> str:
        """For the trajectory: bead `number` of a step, in the order in which the beads came."""
        info = {"step": step, "bead": number, "labelled": is_labelled, "model_version": self.version.number}
        results, uncertainty = ase_results(self.prediction), Uncertainty(self.prediction)
        return frame_text(self.assessment.atoms, results, uncertainty, info)

    def with_own_atoms(self) -> BeadAnswer:
        """The same, safe from the server's next structures."""
        return replace(self, assessment=replace(self.assessment, atoms=bare_structure(self.assessment.atoms)))


def have_come(labels: Iterable[tuple[Decision, Answer]]) -> bool:
    """Whether at least one of these labels has not failed."""
    return any(answer.atoms is not None for _, answer in labels)


@dataclass
class BeadStep:
    """The messages of a step, by their numbers, and how they were answered.

    Parameters
    ----------
    requests : list of int
        Numbers of its messages, including those answered before a restart.
    version : ModelVersion or None
        Version of the first answer.
    answers : list of BeadAnswer
        Answers since the start of this process.
    labels : list of (Decision, Answer)
        Labels, with the decisions that led to them.
    frames : list of str
        For the trajectory.
    seconds : float
        Wall time.
    first : (n_atoms, 3) array or None
        Positions of the structure with the lowest number, A.
    """

    requests: list[int] = field(default_factory=list)
    version: ModelVersion | None = None
    answers: list[BeadAnswer] = field(default_factory=list)
    labels: list[tuple[Decision, Answer]] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    seconds: float = 0.0
    first: np.ndarray | None = None

    @property
    def is_learned(self) -> bool:
        """Whether a bead of the step was labelled."""
        return have_come(self.labels)

    def take(self, request: int, answers: Sequence[BeadAnswer], seconds: float) -> None:
        """Add the answers to a message."""
        if self.first is None or request < min(self.requests):
            self.first = answers[0].assessment.atoms.positions.copy()
        self.version = self.version or answers[0].version
        self.requests.append(request)
        self.answers += answers
        self.seconds += seconds

    def describe(self, cycle: LearningCycle) -> Step:
        """The row of the log: energies are means over the beads, uncertainties belong to the worst bead."""
        worst = max(self.answers, key=lambda answer: answer.assessment.urgency)
        decision, label = self.labels[0] if self.labels else (worst.decision, None)
        return cycle.describe(
            decision,
            label,
            step=cycle.counters.step,
            n_steps=None,
            time_fs=None,
            temperature_K=None,
            energy_eV=float(np.mean([answer.prediction.energy for answer in self.answers])),
            max_energy_std_eV=float(max(Uncertainties.of(answer.prediction).energies_std.max() for answer in self.answers)),
            labelled=self.is_learned,
            seconds=self.seconds,
        )
