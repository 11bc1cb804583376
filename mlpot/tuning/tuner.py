"""`mlpot.tune`: from labelled structures to the settings of a model."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ..errors import ConfigError, FitError
from ..settings.fit import FitConfig
from ..settings.tune import TuneSettings
from .defaults import default_search, with_terms
from .executors import SeparateProcesses
from .final import FinalFit, named
from .front import Candidate, chosen, finalists, front
from .journal import Journal, Outcome, Trial
from .key_paths import JOINT_KEYS
from .material import Material
from .optimisers import Cma, Nevergrad, Optimiser, RandomSearch
from .result import TuneResult
from .search import Limits, run_all, search
from .space import Range, Space
from .swarm import Swarm
from .trials import Trials, neighbours_of
from .weights import Reweighing

log = logging.getLogger(__name__)
Seen = Callable[[Trial, int], None]
"""Called with every finished trial and the number of trials of its step."""
EACH, FEWEST, MOST = 15, 30, 120
"""Trials for each setting that is searched, and bounds of their number."""
MOST_FRONT = 5
"""Largest number of models on the front that are fitted and tested."""
PAYABLE = 0.25
"""Largest part of the budget that one trial may take."""
FREE = {"evaluations", "budget", "workers"}
"""Settings that may change when a search is resumed."""


def tune(
    frames: Sequence[Atoms],
    space: Mapping[str, Any] | None = None,
    config: FitConfig | None = None,
    test: Sequence[Atoms] | None = None,
    settings: TuneSettings | None = None,
    *,
    journal: str | Path = ":memory:",
    resume: bool = False,
    executor: Executor | None = None,
    seen: Seen = lambda trial, total: None,
    **changes: Any,
) -> TuneResult:
    """Search for settings of a model; the result has `best` (FitConfig), `pareto` and `table`.

    Parameters
    ----------
    frames : sequence of ase.Atoms
        Labelled structures.
    space : mapping, optional
        What is searched, as the table [tune.search]; made from the data by default.
    config : FitConfig, optional
        Where the search begins; the balanced preset by default.
    test : sequence of ase.Atoms, optional
        Structures for the errors of the result; one group of `frames` in five by default.
    settings, **changes : TuneSettings, optional
        The keys of [tune], which may also be given as keyword arguments.
    journal, resume : path and bool
        SQLite file in which every trial is written before it counts, and whether to continue the search in it.
    executor : concurrent.futures.Executor, optional
        Computes trials, `settings.workers` at a time; processes on this machine by default.
    seen : callable
        Called with every finished trial and the number of trials of its step.

    Raises
    ------
    ConfigError, DataError, StructureError
        If the space, the settings or the structures are impossible.
    FitError
        If every trial fails, or none is within the bound of the cost.
    RunFolderError
        If the journal belongs to another search.

    Examples
    --------
    >>> best = mlpot.tune(frames, {"terms[1].cutoff": [2.5, 5.0]}, evaluations=40).best     # doctest: +SKIP
    """
    settings = (settings or TuneSettings()).changed(**changes)
    task = Task.of(frames, space, config or FitConfig(), test, settings)
    with ExitStack() as stack:
        book = Journal(journal, task.identity(), resume)
        stack.callback(book.close)
        if executor is None and settings.workers > 1:
            executor = stack.enter_context(SeparateProcesses(settings.workers))
        return Tuner(task, book, executor, seen).run()


@dataclass(frozen=True)
class Task:
    """A search: what is searched, on which data, and how.

    Parameters
    ----------
    material : Material
    space : Space
    settings : TuneSettings
    """

    material: Material
    space: Space
    settings: TuneSettings

    @classmethod
    def of(
        cls,
        frames: Sequence[Atoms],
        space: Mapping[str, Any] | None,
        config: FitConfig,
        test: Sequence[Atoms] | None,
        settings: TuneSettings,
    ) -> Task:
        """Check everything; see `tune` for errors."""
        material = Material.of(frames, config, test, settings)
        template = with_terms(material.config, material)
        table = space or settings.search or default_search(template, material)
        found = Space.of(table, template)
        if "joint" not in settings.steps and (without := [str(p.path) for p in found.parameters if p.path.key in JOINT_KEYS]):
            raise ConfigError(
                f'tune.search."{without[0]}": the steps {list(settings.steps)} cannot compare it; set tune.steps = ["joint"]'
            )
        missing = {"forces": "forces", "energies": "energy"}
        kept = tuple(o for o in settings.objectives if o == "cost" or missing[o] in material.labels)
        if set(kept) <= {"cost"}:
            raise ConfigError(
                f"tune.objectives = {list(settings.objectives)}: the structures have no such labels; they have "
                f"{sorted(material.labels)}"
            )
        return cls(material, found, settings.model_copy(update={"objectives": kept}))

    def identity(self) -> dict[str, Any]:
        """Contents that identify the search in its journal."""
        return {
            "settings": self.settings.model_dump(mode="json", exclude=FREE | {"search"}),
            "search": {str(p.path): p.text() for p in self.space.parameters},
            "model": self.space.template.model_dump(mode="json"),
            "data": self.material.fingerprint(),
        }

    @property
    def n_evaluations(self) -> int:
        """Number of trials of the search."""
        if self.settings.evaluations:
            return self.settings.evaluations
        return min(max(EACH * self.searched.dimension, FEWEST), MOST)

    @property
    def searched(self) -> Space:
        """The space of the first step."""
        if "joint" in self.settings.steps:
            return self.space
        return self.space.part(p for p in self.space.parameters if not p.path.is_weight)


@dataclass
class Tuner:
    """The course of a search.

    Parameters
    ----------
    task : Task
    journal : Journal
    executor : Executor or None
    seen : callable
    """

    task: Task
    journal: Journal
    executor: Executor | None
    seen: Seen

    def run(self) -> TuneResult:
        """All steps; see `tune`."""
        started = time.perf_counter()
        trials = self._search() if self.task.searched.dimension else []
        candidates = self._candidates(trials)
        best = chosen(candidates, self.task.settings.max_cost)
        others = [c for c in front(candidates) if c is not best][: MOST_FRONT - 1]
        default, tested = self._final([best, *others])
        return TuneResult(
            best=tested[0].config,
            pareto=tested,
            default=default,
            trials=self.journal.trials,
            space=self.task.space,
            settings=self.task.settings,
            n_test=len(self.task.material.test),
            seconds=time.perf_counter() - started,
        )

    def _search(self) -> list[Trial]:
        """The first step, or the joint one."""
        task, settings = self.task, self.task.settings
        step = settings.steps[0]
        evaluate = Trials(
            task.searched, task.material.sample(settings.environments, settings.seed), task.material.always,
            task.material.species, settings, step == "joint",
        )  # fmt: skip
        n = task.n_evaluations
        started = time.monotonic()
        ends = None if settings.seconds is None else started + settings.seconds
        found = search(
            step, task.searched, self._optimiser(), evaluate, self._objectives, self.journal, Limits(n, ends),
            self.executor, settings.workers, self._watching(step, n, started),
        )  # fmt: skip
        if not any(t.outcome and t.outcome.failure is None for t in found):
            raise FitError(_all_failed(found, settings))
        return found

    def _watching(self, step: str, total: int, started: float) -> Callable[[Trial], None]:
        """Observer of the trials of a step; the first one shows whether the budget is enough."""
        seconds = self.task.settings.seconds

        def watch(trial: Trial) -> None:
            self.seen(trial, total)
            if trial.number == 0 and seconds is not None and trial.outcome is not None and trial.outcome.failure is None:
                self._check_budget(time.monotonic() - started, trial, seconds)

        return watch

    def _check_budget(self, wall: float, trial: Trial, budget: float) -> None:
        """ConfigError if a trial with the largest cutoff would take most of the budget."""
        material, space = self.task.material, self.task.searched
        typical = max((s for group in material.groups for s in group), key=lambda s: s.n_atoms)
        now = max(t.cutoff for t in space.config(trial.values).terms if hasattr(t, "cutoff"))
        for p in space.parameters:
            if p.path.key != "cutoff" or not isinstance(p, Range):
                continue
            longer = wall * neighbours_of(typical, p.high) / max(neighbours_of(typical, now), 1e-9)
            if longer > PAYABLE * budget:
                raise ConfigError(
                    f'tune.search."{p.path}" = [{p.low:g}, {p.high:g}]: a trial at {p.high:g} A '
                    f"({neighbours_of(typical, p.high):.0f} neighbours) would take about {longer:.2g} s, and the budget is "
                    f"{budget:.2g} s; reduce the upper bound or tune.environments, or raise the budget"
                )

    def _optimiser(self) -> Optimiser:
        settings, space = self.task.settings, self.task.searched
        n = settings.particles or max(8, 2 * settings.workers)
        arguments = (space.dimension, _weights(settings.objectives, n), space.snapped, settings.seed, space.point({}))
        if settings.method == "nevergrad":
            return Nevergrad(*arguments, budget=self.task.n_evaluations, at_a_time=self.task.settings.workers)
        makers: dict[str, Callable[..., Optimiser]] = {"swarm": Swarm, "cma": Cma, "random": RandomSearch}
        return makers[settings.method](*arguments)

    def _objectives(self, outcome: Outcome) -> np.ndarray | None:
        """Logarithms of the objectives; errors of models beyond the bound of the cost are raised."""
        if outcome.failure is not None:
            return None
        bound = self.task.settings.max_cost
        excess = max(0.0, math.log((outcome.cost or 1e-12) / bound)) if bound else 0.0
        found = []
        for name in self.task.settings.objectives:
            value = getattr(outcome, name)
            if value is None or not math.isfinite(value):
                return None
            found.append(math.log(max(value, 1e-12)) + (0.0 if name == "cost" else 3.0 * excess))
        return np.array(found)

    def _candidates(self, trials: Sequence[Trial]) -> list[Candidate]:
        """Models from the trials of the first step, reweighed if there is a second one."""
        task, settings = self.task, self.task.settings
        space = task.searched
        points = [space.point(t.values) for t in trials]
        last = finalists(trials, points, settings.finalists, settings.max_cost)
        if trials and trials[0] not in last and trials[0].outcome and trials[0].outcome.failure is None:
            last.append(trials[0])  # the settings as given
        if "weights" not in settings.steps:
            return [
                Candidate(space.config(t.values), t.values, t.outcome.forces, t.outcome.energies, t.outcome.cost)
                for t in last if t.outcome is not None
            ]  # fmt: skip
        evaluate = Reweighing(
            task.space, task.material.folds(settings.seed), task.material.always, task.material.species, settings.seed
        )
        every = [t.values for t in last] or [{}]
        done = run_all(
            "weights", every, evaluate, self.journal, self.executor, settings.workers, lambda t: self.seen(t, len(every))
        )
        if not any(t.outcome and t.outcome.failure is None for t in done):
            raise FitError(_all_failed(done, settings))
        return [
            _candidate(task.space, trial, found)
            for trial in done if trial.outcome is not None and trial.outcome.failure is None
            for found in trial.outcome.details["candidates"]
        ]  # fmt: skip

    def _final(self, candidates: Sequence[Candidate]) -> tuple[Candidate, list[Candidate]]:
        """The configuration as given, and candidates, fitted to all training structures and tested; the first with several seeds."""
        material, settings = self.task.material, self.task.settings
        start = Candidate(material.config, {}, None, None, None)
        seeds = range(settings.seed, settings.seed + 1 + settings.replicas)
        wanted = [named(start.config, settings.seed), *(named(candidates[0].config, seed) for seed in seeds)]
        wanted += [named(c.config, settings.seed) for c in candidates[1:]]
        trials = run_all(
            "final", wanted, FinalFit(material), self.journal, self.executor, settings.workers,
            lambda t: self.seen(t, len(wanted)),
        )  # fmt: skip
        outcomes = [t.outcome for t in trials]
        first, n = outcomes[1], len(seeds)
        if first is None or first.failure is not None:
            raise FitError(f"the fit with the best settings failed: {first.failure if first else 'not run'}")
        tested = [[o for o in outcomes[1 : 1 + n] if o], *([o] for o in outcomes[1 + n :] if o)]
        found = [
            replace(c, tested=t) for c, t in zip(candidates, tested, strict=True) if any(o.failure is None for o in t)
        ]
        return replace(start, tested=[o for o in outcomes[:1] if o]), found


def _candidate(space: Space, trial: Trial, found: Mapping[str, Any]) -> Candidate:
    """A configuration from a trial and one entry of its `details["candidates"]`."""
    config = space.config(trial.values)
    terms = []
    for k, (term, n) in enumerate(zip(config.terms, found["n_sparse"], strict=True)):
        changes: dict[str, Any] = {} if found["energy_scales"] is None else {"energy_scale": found["energy_scales"][k]}
        if n is not None and (found["fraction"] < 1 or any(p.path.key == "n_sparse" for p in space.parameters)):
            changes["n_sparse"] = n
        terms.append(term.changed(**changes) if changes else term)
    values = {**trial.values, "sparse points": found["n_sparse"]}
    return Candidate(
        config.changed(**found["fit"], terms=tuple(terms)), values, found["forces"], found["energies"], found["cost"]
    )


def _weights(objectives: Sequence[str], n_particles: int) -> np.ndarray:
    """Weights (n_particles, n_objectives): every second particle looks at the errors alone, the others more and more at the cost."""
    errors = [o != "cost" for o in objectives]
    rows = []
    for k in range(n_particles):
        share = 0.0 if k % 2 == 0 or all(errors) else 0.6 * (k + 1) / n_particles
        rows.append([(1 - share) / sum(errors) if e else share for e in errors])
    return np.array(rows)


def _all_failed(trials: Sequence[Trial], settings: TuneSettings) -> str:
    reasons = [t.outcome.failure for t in trials if t.outcome and t.outcome.failure]
    if not reasons:
        return f"no trial was finished within tune.budget = {json.dumps(settings.budget)}; give more time"
    common = max(set(reasons), key=reasons.count)
    return f"all {len(reasons)} trials failed, {reasons.count(common)} of them because: {common}; change tune.search or [model]"
