"""A simulation that learns while a server runs it: what `mlpot driver learn.toml` answers i-PI with.

A step is one structure, or all beads of a ring polymer. They are all evaluated; while one of them needs a label the worst one
gets it, the model learns, and all are evaluated again, so that every bead of a step is answered by the same version of the model.
What was learned is on the disk before the answer is given.

Beads of a step that come one after the other, on one connection or on several, are answered before the others are seen. The
version that answered the first one then answers all; a bead that has to be labelled is answered by the model that learned it,
and the next step begins with that model. A step is over when a structure comes again: the server numbers them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from ase import Atoms

from ..drivers.ase import ase_results
from ..drivers.ipi_evaluator import BeadNeighbours, Committee, check_committee, evaluation_of, predict_bead
from ..drivers.ipi_protocol import Evaluation
from ..errors import RunFolderError
from ..models.prediction import Prediction, Uncertainty
from ..models.sparse_gp import SparseGP
from ..models.variances import Members
from ..structures import volume_of
from .calculator import BudgetSpent, Pace
from .campaign import Answer, Campaign
from .journal import Journal, RunSettings
from .policy import Decision
from .record import TRAJECTORY, Step, frame_text
from .source import bare_structure

log = logging.getLogger(__name__)
WALKER = "i-pi"
FILE = f"{TRAJECTORY}.xyz"
SAME = 1e-6
"""A: i-PI's RESTART has rounded positions."""


@dataclass(frozen=True)
class _View:
    """What is thought of a bead; without a model only that it needs a label."""

    atoms: Atoms
    decision: Decision
    prediction: Prediction | None
    members: Members | None
    model_version: int

    @property
    def urgency(self) -> float:
        """Expected error of its least certain force, eV/A; infinite without a model."""
        return np.inf if self.decision.expected is None else self.decision.expected


@dataclass
class _StepSoFar:
    """What has come of a step, by the server's numbers, and how it was answered; labels with the decisions that led to them."""

    requests: list[int | None] = field(default_factory=list)
    first: np.ndarray | None = None
    """Positions (n_atoms, 3) of the structure with the lowest number, A."""
    views: list[_View] = field(default_factory=list)
    labels: list[tuple[Decision, Answer]] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    seconds: float = 0.0
    model: tuple[SparseGP, int] | None = None
    """Model and version that the first answer came from."""


class LearningEvaluator:
    """Predicts, asks for labels, and learns between the steps of a server.

    Use `serving` around all of it.

    Parameters
    ----------
    campaign : Campaign
        Holds the run folder.
    template : ase.Atoms
        Elements that will come.
    settings : RunSettings
    committee : str
        See `Committee`.
    temperature : float or None
        K, for the report.

    Raises
    ------
    ConfigError
        If there is no such committee.
    """

    identify = True

    def __init__(
        self,
        campaign: Campaign,
        template: Atoms,
        settings: RunSettings | None = None,
        committee: Committee = "none",
        temperature: float | None = None,
    ):
        check_committee(committee)
        self.campaign, self.template, self.settings = campaign, template, settings or RunSettings()
        self.committee, self.temperature = committee, temperature
        self.journal = Journal(campaign, self.settings)
        self.pace = Pace()
        self._step = _StepSoFar()
        self._neighbours: BeadNeighbours | None = None
        self._last = np.empty((0, 3))
        self._n_beads = 0
        self._alone: int | None = None
        """The number of a message that is a whole step, once one has turned out to be."""
        self._resumed, self._is_changing = False, True

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Stand where an earlier run of the folder was; in the end keep everything. Labels under way are waited for, unless
        an exception says that there is no time."""
        try:
            self._begin(self.journal.begin([FILE]))
            yield
            self._end_step()
            self.journal.settle_queue(wait=True)
            self._checkpoint("finished")
        except BudgetSpent:
            self.campaign.wait_for_queue()
            self._checkpoint("budget")
            raise
        except RunFolderError:  # nothing more can be written, and the last checkpoint is whole
            raise
        except BaseException:
            if not self._is_changing:  # else the last checkpoint stands
                self._checkpoint("running")
            raise
        finally:
            self.journal.close()

    def evaluate(self, beads: Sequence[Atoms], request: int | None = None) -> Sequence[Evaluation]:
        """See `Evaluator`.

        Raises
        ------
        BudgetSpent
            If a label is needed that the budget does not allow, or time is up.
        LabelError, RunFolderError
            If a label failed and the plan is to stop then; if something cannot be written.
        """
        started, learner = time.perf_counter(), self.campaign.learner
        if request in self._step.requests:
            self._alone = request if len(self._step.requests) == 1 else None
            self._end_step()
        if not self._step.requests:
            self._settle_queue()
        n_labels = learner.n_labels
        labelled: dict[int, tuple[Decision, Answer]] = {}
        views = [self._look(atoms) for atoms in beads]
        while (worst := self._worst(views, labelled)) is not None:
            labelled[worst] = views[worst].decision, self._label(views[worst])
            for k in range(len(beads)) if self._step.model is None else [worst]:
                views[k] = self._look(beads[k], newest=k in labelled)
        with self._changing():
            self._take(request, views, labelled, time.perf_counter() - started)
        if request == self._alone:
            self._end_step()
        else:
            self._alone = None
        if learner.n_labels > n_labels or self.journal.is_due:
            self._checkpoint("running")
        told = learner.n_labels, bool(labelled)
        return [evaluation_of(view.prediction, view.members, view.model_version, *told) for view in views]

    def state(self) -> dict:
        """As that of a walker."""
        return {
            "name": WALKER, "numbers": self.template.numbers, "ensemble": "i-PI", "pace": asdict(self.pace),
            "temperature_K": self.temperature, "n_beads": self._n_beads, "alone": self._alone, "last": self._last,
            "answered": self._step.requests,
        }  # fmt: skip

    def _begin(self, state: dict | None) -> None:
        species = tuple(sorted({int(z) for z in self.template.numbers}))
        known = None if state is None else state["walkers"][0]
        if known is not None:
            if known["name"] != WALKER or not np.array_equal(known["numbers"], self.template.numbers):
                found = f"walker {known['name']!r} of {len(known['numbers'])} atoms"
                raise self.campaign.folder.other_run(
                    f"{found}, where the template has {len(self.template)}, or other elements"
                )
            self.pace, self._last, self._resumed = Pace(**known["pace"]), known["last"], True
            self._n_beads, self._alone = known["n_beads"], known["alone"]
        self.campaign.prepare(species, {} if state is None else state["campaign"])
        learner = self.campaign.learner
        if known is not None and known["answered"]:  # the others of that step are to see the same version
            self._step.requests, self._step.model = known["answered"], (learner.model, learner.model_version)
        self.campaign.learn_found(WALKER, self.pace.step)
        self._is_changing = False

    def _look(self, atoms: Atoms, newest: bool = False) -> _View:
        """Predict with the model of the step, or with the newest, and decide."""
        learner = self.campaign.learner
        model, version = learner.model, learner.model_version
        if self._step.model is not None and not newest:
            model, version = self._step.model
        since = self.pace.step - self.pace.last_label
        since_check = self.pace.step - self.pace.last_check
        n_queued = len(self.campaign.queue)
        if model is None:
            return _View(atoms, learner.decide(None, since, since_check, n_queued), None, None, version)
        if self._neighbours is None or self._neighbours.cutoff != model.cutoff:
            self._neighbours = BeadNeighbours(model.cutoff)
        pairs = self._neighbours.update(atoms)
        prediction, members = predict_bead(model.compiled, pairs, volume_of(atoms), self.committee)
        decision = learner.decide(prediction, since, since_check, n_queued)
        return _View(atoms, decision, prediction, members, version)

    def _worst(self, views: Sequence[_View], labelled: dict) -> int | None:
        """The bead to label next; BudgetSpent where that would be one too many."""
        waiting = [k for k, view in enumerate(views) if view.decision.action in ("label", "stop") and k not in labelled]
        if not waiting:
            return None
        worst = max(waiting, key=lambda k: views[k].urgency)
        decision = views[worst].decision
        if decision.action == "stop":
            raise BudgetSpent(
                f"a label is needed ({decision.why}) and all {self.campaign.learner.n_asked} of max_labels are spent; raise "
                "max_labels and start the driver with --resume: i-PI waits for it"
            )
        return worst

    def _label(self, view: _View) -> Answer:
        """A label for a bead, learned. The disk has the state before it: whatever ends this process, the step is done again."""
        self._checkpoint("running")
        with self._changing():
            query = self.campaign.ask(view.atoms, view.prediction, view.decision.reason, WALKER, self.pace.step)
            answer = self.journal.settled(self.campaign.settle(query))
        self.pace.last_label = self.pace.step
        learner, lesson = self.campaign.learner, answer.lesson
        if lesson is not None and lesson.force_error is not None:
            known = f"; expected error {view.decision.expected:.3g} eV/A, root mean square error {lesson.force_error:.3g} eV/A"
        else:
            known = ""
        log.info("step %d: %s, %d labels%s", self.pace.step, view.decision.reason, learner.n_labels, known)
        return answer

    def _settle_queue(self) -> None:
        """Between two steps, so that none sees two versions; here a budget of time ends the run."""
        if self.journal.is_out_of_time():
            raise BudgetSpent(
                "the budget of time is spent; raise it and start the driver with --resume: i-PI waits for it"
            )
        if self.campaign.queue:
            with self._changing():
                self.journal.settle_queue(wait=not self.settings.asynchronous)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Whatever interrupts this block leaves a state that is not to be kept: the last checkpoint is that of before."""
        self._is_changing = True
        yield
        self._is_changing = False

    def _take(self, request: int | None, views: Sequence[_View], labelled: dict, seconds: float) -> None:
        """Note what was answered."""
        step = self._step
        step.model = step.model or (self.campaign.learner.model, views[0].model_version)
        for k, view in enumerate(views):
            if k in labelled or self.pace.step % self.settings.interval == 0:
                step.frames.append(self._frame(view, len(step.views) + k, k in labelled))
        if step.first is None or (request or 0) < min(other or 0 for other in step.requests):
            step.first = views[0].atoms.positions.copy()
        step.requests.append(request)
        # the server's next structures overwrite these; of the few that may be labelled later there are copies
        step.views += [
            replace(view, atoms=bare_structure(view.atoms)) if view.decision.action == "queue" else view
            for view in views
        ]
        step.labels += labelled.values()
        step.seconds += seconds

    def _frame(self, view: _View, bead: int, is_labelled: bool) -> str:
        info = {"step": self.pace.step, "bead": bead, "labelled": is_labelled, "model_version": view.model_version}
        return frame_text(view.atoms, ase_results(view.prediction), Uncertainty(view.prediction), info)

    def _end_step(self) -> None:
        """Write the step down, and queue a label if one is wanted; a step that a restarted server repeats does not count."""
        with self._changing():
            step, self._step = self._step, _StepSoFar()
            if step.first is None:  # all of it was answered before a restart
                return
            repeated = self._resumed and not step.labels and self._is_last(step.first)
            self._resumed, self._last = False, step.first
            self._n_beads = max(self._n_beads, len(step.views))
            if repeated:
                return
            queued = [view for view in step.views if view.decision.action == "queue"]
            if queued:
                self._enqueue(max(queued, key=lambda view: view.urgency))
            self.journal.append(FILE, "".join(step.frames))
            self.journal.write(self._describe(step))
            self.journal.count(1, bool(step.labels))
            self.pace.step += 1

    def _is_last(self, positions: np.ndarray) -> bool:
        return positions.shape == self._last.shape and bool(np.abs(positions - self._last).max() < SAME)

    def _enqueue(self, view: _View) -> None:
        query = self.campaign.ask(view.atoms, view.prediction, view.decision.reason, WALKER, self.pace.step)
        self.campaign.enqueue(query)
        self.pace.last_label = self.pace.last_check = self.pace.step

    def _describe(self, step: _StepSoFar) -> Step:
        """The row of the log: energies are means over the beads, uncertainties those of the worst."""
        learner = self.campaign.learner
        worst = max(step.views, key=lambda view: view.urgency)
        decision, answer = step.labels[0] if step.labels else (worst.decision, None)
        lesson = None if answer is None else answer.lesson
        return Step(
            step=self.pace.step,
            n_steps=None,
            time_fs=None,
            temperature_K=None,
            energy_eV=float(np.mean([view.prediction.energy for view in step.views])),
            max_energy_std_eV=float(max(view.prediction.energies_std.max() for view in step.views)),
            threshold=decision.threshold,
            labelled=any(answer.atoms is not None for _, answer in step.labels),
            model_version=learner.model_version,
            n_labels=learner.n_labels,
            seconds=step.seconds,
            expected_error_eV_per_A=decision.expected,
            force_error_eV_per_A=None if lesson is None else lesson.force_error,
            novelty=decision.novelty,
            reason="failed" if answer is not None and answer.failure else decision.reason,
            walker=WALKER,
            n_queued=len(self.campaign.queue),
        )

    def _checkpoint(self, status: str) -> None:
        self.journal.checkpoint(status, [self.state()])
