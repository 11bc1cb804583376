"""`mlpot driver learn.toml`: a model that learns while an i-PI server runs the simulation.

A step is one structure, or all beads of a ring polymer. All beads are predicted; as long as one of them needs a label, the least
certain bead is labelled, the model learns the label, and all beads are predicted again, so that all beads of a step are answered by
the same version of the model. Everything learned is on disk before the answer is sent.

If the beads of a step come in several messages, on one connection or several, the first ones must be answered before the others
are known. The version that answered the first bead then answers all of them. A bead for which that version cannot be trusted is
answered by the newest version, labelled if necessary, and the next step starts with that one. A step is over when the number of a
message is repeated: the server numbers its structures.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np
from ase import Atoms

from ..drivers.ipi_evaluator import BeadNeighbours, Committee, check_committee, predict_bead
from ..drivers.ipi_protocol import Evaluation
from ..errors import RunFolderError, counted
from .campaign import Answer, Campaign
from .checkpoints import Journal, RunSettings
from .cycle import Assessment, BudgetSpent, LearningCycle, obtain
from .log_format import TRAJECTORY
from .policy import Decision, Use
from .run_folder import AnsweredRequests
from .served_step import WALKER, BeadAnswer, BeadStep, ModelVersion, have_come
from .step_counters import StepCounters
from .verdict import Verdict

log = logging.getLogger(__name__)
FILE, ANSWERED_FILE = f"{TRAJECTORY}.xyz", "answered"
SAME = 1e-6
"""Displacement (A) below which two structures are the same: positions in i-PI's RESTART are rounded."""
NO_NUMBER = -1
"""Number of every message from a server that does not number its structures: each is a step."""
Labelled = dict[int, tuple[Decision, Answer]]


class LearningEvaluator:
    """Answers a server: predicts, requests labels, and learns between the steps. Use it inside `serving`.

    Parameters
    ----------
    campaign : Campaign
        Holds the run folder.
    template : ase.Atoms
        Has the elements that will come.
    settings : RunSettings
        `workers` is not used: labels that the server waits for are made one at a time, each with the model that knows the others.
    committee : str
        See `Committee`.
    temperature : float or None
        Temperature of a ring polymer, K, for the report.

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
        self.cycle = LearningCycle(campaign, WALKER, "start the driver again with --resume: i-PI waits for it")
        self._step = BeadStep()
        self._opened: AnsweredRequests | None = None
        self._neighbours: BeadNeighbours | None = None
        self._last = np.empty((0, 3))
        self._sizes = Counter[int]()
        """Number of steps by their number of beads."""
        self._whole: tuple[int, int] | None = None
        """Number and beads of a message that was a complete step by itself; None while that is not known."""
        self.wants_stress = False
        self._cell: np.ndarray | None = None
        self._is_changing = True
        self.verdict: Verdict | None = None
        """Verdict on a run that has ended."""

    @property
    def counters(self) -> StepCounters:
        """Steps of the server."""
        return self.cycle.counters

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Continue the run in the folder, if any; save everything at the end.

        Labels under way are waited for at the end, unless an exception ends the block.
        """
        try:
            self._begin(self.journal.begin([FILE]))
            yield
            self._end_step()
            self._checkpoint("running")
            with self._changing():
                self.journal.settle_queue(wait=True)
            self.verdict = self.journal.conclude()
            self._checkpoint("finished")
        except BudgetSpent:
            self.verdict = self.journal.conclude(wanted=True)
            self._checkpoint("budget")
            self.campaign.wait_for_queue()
            raise
        except RunFolderError:  # nothing more can be written, and the last checkpoint is whole
            raise
        except BaseException:
            if not self._is_changing:  # else the last checkpoint stands
                self._checkpoint("running")
            raise
        finally:
            self.journal.close()
            if self._opened is not None:
                self._opened.close()

    def evaluate(self, beads: Sequence[Atoms], request: int | None = None) -> Sequence[Evaluation]:
        """See `Evaluator`.

        Raises
        ------
        BudgetSpent
            If a label is needed that the budget does not allow, or the time is used up.
        LabelError, RunFolderError
            If a label failed and the plan is to stop then; if the run folder cannot be written.
        """
        started, learner = time.perf_counter(), self.campaign.learner
        number = NO_NUMBER if request is None else request
        if number in self._step.requests:
            self._whole = (number, len(self._step.answers)) if len(self._step.requests) == 1 else None
            self._end_step()
        if not self._step.requests:
            self._settle_queue()
        n_labels = learner.n_labels
        self._watch_cell(beads[0].cell.array)
        answers, labelled = self._answers(beads)
        with self._changing():
            self._take(number, answers, labelled, time.perf_counter() - started)
        if self._whole == (number, len(beads)):
            self._end_step()
        if learner.n_labels > n_labels or self.journal.is_due:
            self._checkpoint("running")
        learned = have_come(labelled.values())
        return [answer.evaluation(learned) for answer in answers]

    def state(self) -> dict:
        """State for state.json, in the form used for walkers."""
        return {
            "name": WALKER, "numbers": self.template.numbers, "ensemble": "i-PI", "pace": asdict(self.counters),
            "temperature_K": self.temperature, "n_beads": self._n_beads, "last": self._last,
            "sizes": {str(size): count for size, count in self._sizes.items()}, "cell": self._cell,
            "wants_stress": self.wants_stress,
        }  # fmt: skip

    @property
    def _n_beads(self) -> int:
        """Usual number of beads in a step; occasionally beads are assigned to the next step."""
        return self._sizes.most_common(1)[0][0] if self._sizes else 0

    @property
    def _answered_requests(self) -> AnsweredRequests:
        if self._opened is None:
            raise RuntimeError("a message is answered outside of `serving`")
        return self._opened

    def _begin(self, state: dict | None) -> None:
        species = tuple(sorted({int(z) for z in self.template.numbers}))
        known = None if state is None else state["walkers"][0]
        if known is not None:
            if known["name"] != WALKER or not np.array_equal(known["numbers"], self.template.numbers):
                found = f"walker {known['name']!r} of {counted(len(known['numbers']), 'atom')}"
                raise self.campaign.folder.other_run(
                    f"{found}, but the template has {counted(len(self.template), 'atom')}, or different elements"
                )
            self.cycle.counters, self._last = StepCounters(**known["pace"]), known["last"]
            self._sizes.update({int(size): count for size, count in known["sizes"].items()})
            self._cell, self.wants_stress = known.get("cell"), known.get("wants_stress", False)
        self._opened = AnsweredRequests(self.campaign.folder / ANSWERED_FILE)
        self.campaign.prepare(species, {} if state is None else state["campaign"])
        if self._answered_requests.numbers:  # the others of that step are to see the same version
            self._step.requests, self._step.version = self._answered_requests.numbers, ModelVersion.newest(self.campaign.learner)
        if self.campaign.learn_found(WALKER, self.counters.step):
            self.counters.last_label = self.counters.step
        self._is_changing = False

    def _answers(self, beads: Sequence[Atoms]) -> tuple[list[BeadAnswer], Labelled]:
        """The answers to a message, and the labels that they took, by bead."""
        labelled: Labelled = {}
        pinned = self._step.version
        answers = [self._look(atoms, pinned) for atoms in beads]
        while (worst := _worst(answers, labelled)) is not None:
            if pinned is not None and answers[worst].version.number < self.campaign.learner.model_version:
                answers[worst] = self._look(beads[worst])  # what others taught in this step may do
                continue
            labelled[worst] = answers[worst].decision, self._label(answers[worst])
            for k in range(len(beads)) if pinned is None else [worst]:
                answers[k] = self._look(beads[k])
        return answers, labelled

    def _watch_cell(self, cell: np.ndarray) -> None:
        """Find out whether the virial is used, which a server does not say: it is if the cell changes."""
        if self._cell is None:
            self._cell = cell.copy()
        self.wants_stress |= bool(np.abs(cell - self._cell).max() > SAME * max(np.abs(cell).max(), 1.0))

    def _look(self, atoms: Atoms, version: ModelVersion | None = None) -> BeadAnswer:
        """Predict with a version of the model, by default the newest, with the present calibration; and decide."""
        learner, use = self.campaign.learner, Use(stress=self.wants_stress)
        version = version or ModelVersion.newest(learner)
        if version.model is None:
            return BeadAnswer(self.cycle.assess(atoms, None, use), version)
        model = version.model
        if model.calibration != learner.calibration:
            model = learner.calibrated(model)
            version = replace(version, model=model)
        if self._neighbours is None or self._neighbours.cutoff != model.cutoff:
            self._neighbours = BeadNeighbours(model.cutoff)
        pairs = self._neighbours.update(atoms)
        prediction, members = predict_bead(model.compiled, pairs, atoms, self.committee)
        return BeadAnswer(self.cycle.assess(atoms, prediction, use), version, members)

    def _label(self, bead: BeadAnswer) -> Answer:
        """The label of a bead, learned; BudgetSpent if the budget does not allow one.

        The state before it is saved first: from there the message is answered again, whatever ends this process.
        """
        self.cycle.check_budget(bead.assessment)
        self._checkpoint("running")
        with self._changing():
            (answer,) = obtain([(self.cycle, bead.assessment)], self.journal.settled)
        outcome, decision, known = answer.outcome, bead.decision, ""
        if outcome is not None and outcome.force_error is not None:
            known = f"; expected error {decision.expected:.3g} eV/A, RMS error {outcome.force_error:.3g} eV/A"
        log.info("step %d: %s, %d labels%s", self.counters.step, decision.reason, self.campaign.learner.n_labels, known)
        return answer

    def _settle_queue(self) -> None:
        """Learn queued labels between two steps, so that no step sees two versions; end the run if its time is used up."""
        if self.journal.is_out_of_time():
            raise BudgetSpent(
                f"the run has used its time (max_wall_hours or max_cpu_hours); increase it and {self.cycle.resume}"
            )
        if self.campaign.queue:
            with self._changing():
                self.journal.settle_queue(wait=not self.settings.asynchronous)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Mark changes that are incomplete if the block is interrupted: then the last checkpoint, from before, is kept."""
        self._is_changing = True
        yield
        self._is_changing = False

    def _take(self, number: int, answers: Sequence[BeadAnswer], labelled: Labelled, seconds: float) -> None:
        """Record what was answered."""
        step, answered = self._step, self._answered_requests
        for k, answer in enumerate(answers):
            if k in labelled or self.counters.step % self.settings.interval == 0:
                step.frames.append(answer.frame(self.counters.step, len(step.answers) + k, k in labelled))
        if not step.requests:
            answered.begin()
        answered.add(number)
        # the server's next structures overwrite these, so the few that may be labelled later are copied
        kept = [answer.with_own_atoms() if answer.decision.action == "queue" else answer for answer in answers]
        step.take(number, kept, seconds)
        step.labels += labelled.values()

    def _end_step(self) -> None:
        """Record the step, and queue a label if one is wanted; a step that a restarted server repeats does not count."""
        n_queued = len(self.campaign.queue)
        with self._changing():
            step, self._step = self._step, BeadStep()
            if step.first is None or (not step.labels and self._is_last(step.first)):
                return
            self._last = step.first
            self._sizes[len(step.answers)] += 1
            queued = [answer.assessment for answer in step.answers if answer.decision.action == "queue"]
            if queued:
                self._enqueue(max(queued, key=lambda assessment: assessment.urgency))
            self.journal.append(FILE, "".join(step.frames))
            self.journal.write(step.describe(self.cycle))
            self.journal.count(1, bool(step.labels))
            self.counters.step += 1
        if len(self.campaign.queue) > n_queued:
            self._checkpoint("running")

    def _is_last(self, positions: np.ndarray) -> bool:
        return positions.shape == self._last.shape and bool(np.abs(positions - self._last).max() < SAME)

    def _enqueue(self, assessment: Assessment) -> None:
        """Queue a label, unless the same step has used up the budget, or it is a check label and the run has converged."""
        is_idle = assessment.decision.reason == "check" and self.journal.convergence.verdict == "converged"
        if not is_idle and not self.campaign.learner.rules.are_spent(self.campaign.learner.n_asked):
            self.cycle.queue(assessment)

    def _checkpoint(self, status: str) -> None:
        self.journal.checkpoint(status, [self.state()], self.verdict)


def _worst(answers: Sequence[BeadAnswer], labelled: Labelled) -> int | None:
    """The bead to label next."""
    waiting = [k for k, answer in enumerate(answers) if answer.assessment.needs_label and k not in labelled]
    return max(waiting, key=lambda k: answers[k].assessment.urgency) if waiting else None
