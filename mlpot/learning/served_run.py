"""A simulation that learns while a server runs it: what `mlpot driver learn.toml` answers i-PI with.

A step is one structure, or all beads of a ring polymer. They are all evaluated; while one of them needs a label the worst one
gets it, the model learns, and all are evaluated again, so that every bead of a step is answered by the same version of the model.
What was learned is on the disk before the answer is given.

Beads of a step that come in several messages, on one connection or on several, are answered before the others are seen. The
version that answered the first one then answers all; a bead that it cannot be trusted with is answered by the newest, labelled if
need be, and the next step begins with that. A step is over when a message comes again: the server numbers its structures.
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
from ..errors import RunFolderError
from ..structures import bare_structure, volume_of
from .campaign import Answer, Campaign
from .checkpoints import Journal, RunSettings
from .events import BudgetSpent
from .log_format import TRAJECTORY
from .pace import Pace
from .policy import Decision, Use
from .run_folder import Slate
from .served_step import WALKER, BeadStep, Version, View, have_come
from .verdict import Verdict

log = logging.getLogger(__name__)
FILE, SLATE = f"{TRAJECTORY}.xyz", "answered"
SAME = 1e-6
"""A: i-PI's RESTART has rounded positions."""
NO_NUMBER = -1
"""Of a message whose server gives none: every one of them is a step."""
Labelled = dict[int, tuple[Decision, Answer]]


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
        `workers` does not matter: hard labels are made one at a time, each with the model of all others.
    committee : str
        See `Committee`.
    temperature : float or None
        Of a ring polymer, K, for the report.

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
        self._step = BeadStep()
        self._slate: Slate | None = None
        self._neighbours: BeadNeighbours | None = None
        self._last = np.empty((0, 3))
        self._sizes = Counter[int]()
        """How many steps had how many beads."""
        self._whole: tuple[int, int] | None = None
        """Number and beads of a message that is a whole step, once one has turned out to be."""
        self.wants_stress = False
        self._cell: np.ndarray | None = None
        self._is_changing = True
        self.verdict: Verdict | None = None
        """Of a run that has ended."""

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Stand where an earlier run of the folder was; in the end keep everything. Labels under way are waited for, unless
        an exception says that there is no time."""
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
            if self._slate is not None:
                self._slate.close()

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
        number = NO_NUMBER if request is None else request
        if number in self._step.requests:
            self._whole = (number, len(self._step.views)) if len(self._step.requests) == 1 else None
            self._end_step()
        if not self._step.requests:
            self._settle_queue()
        n_labels = learner.n_labels
        self._watch_cell(beads[0].cell.array)
        views, labelled = self._answers(beads)
        with self._changing():
            self._take(number, views, labelled, time.perf_counter() - started)
        if self._whole == (number, len(beads)):
            self._end_step()
        if learner.n_labels > n_labels or self.journal.is_due:
            self._checkpoint("running")
        learned = have_come(labelled.values())
        return [view.evaluation(learned) for view in views]

    def state(self) -> dict:
        """As that of a walker."""
        return {
            "name": WALKER, "numbers": self.template.numbers, "ensemble": "i-PI", "pace": asdict(self.pace),
            "temperature_K": self.temperature, "n_beads": self._n_beads, "last": self._last,
            "sizes": {str(size): count for size, count in self._sizes.items()}, "cell": self._cell,
            "wants_stress": self.wants_stress,
        }  # fmt: skip

    @property
    def _n_beads(self) -> int:
        """Of a step: of a rare one some beads are not told apart from those of the next."""
        return self._sizes.most_common(1)[0][0] if self._sizes else 0

    def _begin(self, state: dict | None) -> None:
        species = tuple(sorted({int(z) for z in self.template.numbers}))
        known = None if state is None else state["walkers"][0]
        if known is not None:
            if known["name"] != WALKER or not np.array_equal(known["numbers"], self.template.numbers):
                found = f"walker {known['name']!r} of {len(known['numbers'])} atoms"
                raise self.campaign.folder.other_run(
                    f"{found}, where the template has {len(self.template)}, or other elements"
                )
            self.pace, self._last = Pace(**known["pace"]), known["last"]
            self._sizes.update({int(size): count for size, count in known["sizes"].items()})
            self._cell, self.wants_stress = known.get("cell"), known.get("wants_stress", False)
        self._slate = Slate(self.campaign.folder / SLATE)
        self.campaign.prepare(species, {} if state is None else state["campaign"])
        if self._slate.numbers:  # the others of that step are to see the same version
            self._step.requests, self._step.version = self._slate.numbers, Version.newest(self.campaign.learner)
        if self.campaign.learn_found(WALKER, self.pace.step):
            self.pace.last_label = self.pace.step
        self._is_changing = False

    def _answers(self, beads: Sequence[Atoms]) -> tuple[list[View], Labelled]:
        """What a message is answered with, and the labels that it took, by bead."""
        labelled: Labelled = {}
        pinned = self._step.version
        views = [self._look(atoms, pinned) for atoms in beads]
        while (worst := _worst(views, labelled)) is not None:
            if pinned is not None and views[worst].version.number < self.campaign.learner.model_version:
                views[worst] = self._look(beads[worst])  # what others taught in this step may do
                continue
            labelled[worst] = views[worst].decision, self._label(views[worst])
            for k in range(len(beads)) if pinned is None else [worst]:
                views[k] = self._look(beads[k])
        return views, labelled

    def _watch_cell(self, cell: np.ndarray) -> None:
        """A server does not say whether it uses the virial; it does if the cell changes."""
        if self._cell is None:
            self._cell = cell.copy()
        self.wants_stress |= bool(np.abs(cell - self._cell).max() > SAME * max(np.abs(cell).max(), 1.0))

    def _look(self, atoms: Atoms, version: Version | None = None) -> View:
        """Predict with a version of the model, by default the newest, calibrated as it is known now; and decide."""
        learner = self.campaign.learner
        version = version or Version.newest(learner)
        n_queued, use = len(self.campaign.queue), Use(stress=self.wants_stress)
        if version.model is None:
            return View(atoms, learner.decide(None, atoms, self.pace, n_queued, use), version)
        if version.model.calibration != learner.calibration:
            version = replace(version, model=learner.calibrated(version.model))
        if self._neighbours is None or self._neighbours.cutoff != version.model.cutoff:
            self._neighbours = BeadNeighbours(version.model.cutoff)
        pairs = self._neighbours.update(atoms)
        prediction, members = predict_bead(version.model.compiled, pairs, volume_of(atoms), self.committee)
        decision = learner.decide(prediction, atoms, self.pace, n_queued, use)
        before = learner.before(prediction) if decision.action in ("label", "queue") else None
        return View(atoms, decision, version, prediction, members, before)

    def _label(self, view: View) -> Answer:
        """A label for a bead, learned. The disk has the state before it, from which the message is answered again whatever ends
        this process; BudgetSpent where it would be one too many."""
        decision = view.decision
        if decision.action == "stop":
            raise BudgetSpent(
                f"a label is needed ({decision.why}) and all {self.campaign.learner.n_asked} of max_labels are spent; raise "
                "max_labels and start the driver with --resume: i-PI waits for it"
            )
        self._checkpoint("running")
        with self._changing():
            query = self.campaign.ask(view.atoms, view.before, decision.reason, WALKER, self.pace.step)
            answer = self.journal.settled(self.campaign.settle(query))
            self.pace.last_label = self.pace.step
        lesson = answer.lesson
        if lesson is not None and lesson.force_error is not None:
            known = (
                f"; expected error {decision.expected:.3g} eV/A, root mean square error {lesson.force_error:.3g} eV/A"
            )
        else:
            known = ""
        log.info("step %d: %s, %d labels%s", self.pace.step, decision.reason, self.campaign.learner.n_labels, known)
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

    def _take(self, number: int, views: Sequence[View], labelled: Labelled, seconds: float) -> None:
        """Note what was answered."""
        step = self._step
        for k, view in enumerate(views):
            if k in labelled or self.pace.step % self.settings.interval == 0:
                step.frames.append(view.frame(self.pace.step, len(step.views) + k, k in labelled))
        if not step.requests:
            self._slate.begin()
        self._slate.add(number)
        # the server's next structures overwrite these; of the few that may be labelled later there are copies
        kept = [
            replace(view, atoms=bare_structure(view.atoms)) if view.decision.action == "queue" else view
            for view in views
        ]
        step.take(number, kept, seconds)
        step.labels += labelled.values()

    def _end_step(self) -> None:
        """Write the step down, and queue a label if one is wanted; a step that a restarted server repeats does not count."""
        n_queued = len(self.campaign.queue)
        with self._changing():
            step, self._step = self._step, BeadStep()
            if step.first is None or (not step.labels and self._is_last(step.first)):
                return
            self._last = step.first
            self._sizes[len(step.views)] += 1
            queued = [view for view in step.views if view.decision.action == "queue"]
            if queued:
                self._enqueue(max(queued, key=lambda view: view.urgency))
            self.journal.append(FILE, "".join(step.frames))
            self.journal.write(step.describe(self.pace.step, self.campaign.learner, len(self.campaign.queue)))
            self.journal.count(1, bool(step.labels))
            self.pace.step += 1
        if len(self.campaign.queue) > n_queued:
            self._checkpoint("running")

    def _is_last(self, positions: np.ndarray) -> bool:
        return positions.shape == self._last.shape and bool(np.abs(positions - self._last).max() < SAME)

    def _enqueue(self, view: View) -> None:
        """Unless the budget was spent in the same step, or a check label could only confirm what is known to have converged."""
        is_idle = view.decision.reason == "check" and self.journal.convergence.verdict == "converged"
        if is_idle or self.campaign.learner.rules.are_spent(self.campaign.learner.n_asked):
            return
        query = self.campaign.ask(view.atoms, view.before, view.decision.reason, WALKER, self.pace.step)
        self.campaign.enqueue(query)
        self.pace.last_label = self.pace.last_check = self.pace.step

    def _checkpoint(self, status: str) -> None:
        self.journal.checkpoint(status, [self.state()], self.verdict)


def _worst(views: Sequence[View], labelled: Labelled) -> int | None:
    """The bead to label next."""
    waiting = [k for k, view in enumerate(views) if view.decision.action in ("label", "stop") and k not in labelled]
    return max(waiting, key=lambda k: views[k].urgency) if waiting else None
