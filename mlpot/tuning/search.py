"""A search: an optimiser, an executor and a journal. Workers do not wait for each other: results are reported as they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import MlpotError, system_trouble
from .journal import Journal, Outcome, Trial
from .optimisers import Move, Optimiser
from .space import Space

Evaluate = Callable[[dict[str, Any]], Outcome]
Observer = Callable[[Trial], None]


@dataclass(frozen=True)
class Limits:
    """When a search ends.

    Parameters
    ----------
    evaluations : int
        Trials of this step, failed ones and those already in the journal included.
    ends : float or None
        Time of `time.monotonic` after which no trial is started.
    """

    evaluations: int
    ends: float | None = None

    def allow(self, n_asked: int) -> bool:
        """Whether another trial may be started."""
        return n_asked < self.evaluations and (self.ends is None or time.monotonic() < self.ends)


def search(
    step: str,
    space: Space,
    optimiser: Optimiser,
    evaluate: Evaluate,
    objectives: Callable[[Outcome], np.ndarray | None],
    journal: Journal,
    limits: Limits,
    executor: Executor | None = None,
    n_workers: int = 1,
    seen: Observer = lambda trial: None,
) -> list[Trial]:
    """Run one step of a search and return its trials, the running ones finished.

    Trials in the journal are replayed first: they are reported to the optimiser and not computed again; trials running when the
    process died are computed.

    Parameters
    ----------
    evaluate : callable
        From settings to an outcome; called in processes of the executor, so it must be picklable.
    objectives : callable
        From an outcome to the values that the optimiser receives.
    executor : concurrent.futures.Executor or None
        None computes in this process, one trial after the other.
    n_workers : int
        Trials at the same time.
    seen : callable
        Called with every finished trial.
    """
    loop = _Loop(step, space, optimiser, objectives, journal, seen)
    queue = TrialQueue(evaluate, executor, n_workers, loop.tell)
    queue.waiting = loop.replay()
    with queue:
        while queue.is_busy or limits.allow(loop.n_asked):
            while queue.has_room and (queue.waiting or limits.allow(loop.n_asked)):
                queue.start(queue.waiting.pop(0) if queue.waiting else loop.ask(), loop.outcomes)
            queue.collect()
    return [t for t in journal.trials if t.step == step]


def run_all(
    step: str,
    every: Sequence[dict[str, Any]],
    evaluate: Evaluate,
    journal: Journal,
    executor: Executor | None = None,
    n_workers: int = 1,
    seen: Observer = lambda trial: None,
) -> list[Trial]:
    """Evaluate given settings and return their trials, in this order; those in the journal are not computed again."""
    known = {t.key: t for t in journal.trials if t.step == step}
    trials: list[Trial] = []
    for values in every:
        key = Trial(0, step, values, 0).key
        if key not in known:
            known[key] = journal.ask(step, values)
        trials.append(known[key])

    def tell(trial: Trial, outcome: Outcome) -> None:
        seen(journal.tell(trial, outcome))

    queue = TrialQueue(evaluate, executor, n_workers, tell)
    queue.waiting = [t for t in dict((t.number, t) for t in trials).values() if t.outcome is None]
    with queue:
        while queue.is_busy:
            while queue.has_room and queue.waiting:
                queue.start(queue.waiting.pop(0), {})
            queue.collect()
    return [journal.trials[t.number] for t in trials]


class TrialQueue:
    """Trials that are running, and those that wait.

    Parameters
    ----------
    evaluate : callable
    executor : Executor or None
    n_workers : int
    tell : callable
        Called with every trial and its outcome, as soon as it is there.
    """

    def __init__(
        self, evaluate: Evaluate, executor: Executor | None, n_workers: int, tell: Callable[[Trial, Outcome], None]
    ):
        self._evaluate, self._executor, self._n_workers, self._tell = evaluate, executor, n_workers, tell
        self.waiting: list[Trial] = []
        self._running: dict[Future, Trial] = {}
        self._twins: list[Trial] = []
        """Trials with the settings of one that is running."""

    def __enter__(self) -> TrialQueue:
        return self

    def __exit__(self, *error: object) -> None:
        for future in self._running:
            future.cancel()

    @property
    def is_busy(self) -> bool:
        """Whether a trial waits or is running."""
        return bool(self.waiting or self._running)

    @property
    def has_room(self) -> bool:
        """Whether another trial can be started."""
        return len(self._running) + len(self._twins) < self._n_workers

    def start(self, trial: Trial, outcomes: Mapping[str, Outcome]) -> None:
        """Start a trial, unless its outcome is among those that are known, or on its way: nothing is paid twice."""
        known = outcomes.get(trial.key)
        if known is not None:
            self._tell(trial, replace(known, seconds=0.0, n_fits=0))
        elif any(t.key == trial.key for t in self._running.values()):
            self._twins.append(trial)
        elif self._executor is None:
            self._tell(trial, guarded(self._evaluate, trial.values))
        else:
            self._running[self._executor.submit(guarded, self._evaluate, trial.values)] = trial

    def collect(self) -> None:
        """Wait for the next outcome, if a trial is running, and tell all that are there."""
        if not self._running:
            return
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda f: self._running[f].number):
            trial, outcome = self._running.pop(future), _result(future)
            self._tell(trial, outcome)
            for twin in [t for t in self._twins if t.key == trial.key]:
                self._twins.remove(twin)
                self._tell(twin, replace(outcome, seconds=0.0, n_fits=0))


class _Loop:
    """State of one step."""

    def __init__(self, step: str, space: Space, optimiser: Optimiser, objectives, journal: Journal, seen: Observer):
        self._step, self._space, self._optimiser = step, space, optimiser
        self._objectives, self._journal, self._seen = objectives, journal, seen
        self._moves: dict[int, Move] = {}
        self.outcomes: dict[str, Outcome] = {}
        """Outcomes by the key of the trial."""
        self.n_asked = 0

    def replay(self) -> list[Trial]:
        """Bring the optimiser to where the journal ends; returns trials without an outcome."""
        for kind, trial in self._journal.events():
            if trial.step != self._step:
                continue
            if kind == "asked":
                move = self._optimiser.ask()
                if self._space.values(move.point) != trial.values:  # another version of a library: the journal is right
                    move = Move(move.particle, self._space.point(trial.values))
                self._moves[trial.number] = move
                self.n_asked += 1
            elif trial.outcome is not None:
                self._told(trial, trial.outcome)
        return [t for t in self._journal.trials if t.step == self._step and t.outcome is None]

    def ask(self) -> Trial:
        move = self._optimiser.ask()
        trial = self._journal.ask(self._step, self._space.values(move.point))
        self._moves[trial.number] = move
        self.n_asked += 1
        return trial

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        done = self._journal.tell(trial, outcome)
        self._told(done, outcome)
        self._seen(done)

    def _told(self, trial: Trial, outcome: Outcome) -> None:
        self.outcomes[trial.key] = outcome
        self._optimiser.tell(self._moves.pop(trial.number), self._objectives(outcome))


def guarded(evaluate: Evaluate, values: dict[str, Any]) -> Outcome:
    """The outcome of settings; those that cannot be fitted are values too."""
    started = time.process_time()
    try:
        return evaluate(values)
    except MlpotError as error:
        failure = str(error).splitlines()[0]
    except MemoryError as error:
        failure = system_trouble(error)
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        failure = f"{type(error).__name__}: {error}"
    return Outcome(seconds=time.process_time() - started, failure=failure)


def _result(future: Future) -> Outcome:
    """The outcome from a worker; a worker that died, for want of memory most of all, is a failure of the settings."""
    try:
        return future.result()
    except (BrokenExecutor, MemoryError) as error:
        return Outcome(failure=f"its process died, possibly out of memory ({str(error).splitlines()[0] or type(error).__name__})")


def finite(trials: Sequence[Trial]) -> list[Trial]:
    """Trials with errors."""
    return [t for t in trials if t.outcome is not None and t.outcome.failure is None]
