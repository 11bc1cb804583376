"""A campaign: one model, the labels it is made of, and the run folder that holds both; any number of walkers share it."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from ..errors import LabelError, ModelFileError
from ..fitting.incremental import Fit
from ..labellers.protocol import key_of
from ..labels.plan import LabellingPlan
from ..labels.requests import Outcome
from ..labels.store import speaking
from ..models.files import load_model
from ..settings.fit import FitConfig
from ..structures import bare_structure, labelled, write_exact_xyz
from .learner import Before, Learner, Lesson
from .policy import CHOSEN_REASONS, Rules
from .run_folder import opened_source

log = logging.getLogger(__name__)

MODEL_FILE, FIT_FILE = "model.h5", "fit.h5"
START_DATA, START_MODEL = "start_data.xyz", "start_model.h5"
"""Copies of what a run started from: with them and its labels the model can be made again anywhere."""
SEEN = "seen_"
"""Prefix of numbers in labels.db for reports; all that the calibration is made of is under `OBSERVATION` in the data."""
OBSERVATION, SET_ASIDE, CHECK_INTERVAL = "observation", "set_aside", "check_interval"
"""Names in labels.db: what a label taught; why it was not learned; steps to the next automatic check after it."""
SAVE_AFTER = 10.0
"""The fit is written when learning since the last time took so many times longer than writing it."""


@dataclass(frozen=True)
class Query:
    """A structure whose label was asked for.

    Parameters
    ----------
    key : str
        Of the label.
    atoms : ase.Atoms
    before : Before or None
        What the model said of it.
    reason : str
        Of the decision.
    walker : str
        Who asked, and at which of its steps.
    step : int
    """

    key: str
    atoms: Atoms
    before: Before | None
    reason: str
    walker: str
    step: int

    def state(self) -> dict:
        """Numbers, strings and arrays."""
        before = None if self.before is None else vars(self.before)
        return {**vars(self), "atoms": self.atoms.todict(), "before": before}

    @classmethod
    def restore(cls, state: dict) -> Query:
        """Inverse of `state`."""
        before = state["before"]
        # what an earlier version said of a structure cannot be compared with its label as this one does: nothing was said
        before = Before(**before) if before is not None and "borrowed" in before else None
        return cls(**{**state, "atoms": Atoms.fromdict(state["atoms"]), "before": before})


@dataclass(frozen=True)
class Answer:
    """What became of a query.

    Parameters
    ----------
    query : Query
    atoms : ase.Atoms or None
        Labelled; None when the label failed.
    lesson : Lesson or None
        None without a label, for one that had been learned already, and for one that is not learned.
    paid : bool
        Whether it was calculated now rather than found.
    failure : str or None
        Why there is no label.
    """

    query: Query
    atoms: Atoms | None
    lesson: Lesson | None
    paid: bool
    failure: str | None


class Campaign:
    """Asks for labels, learns them in the order in which they are settled, and keeps everything on the disk.

    Parameters
    ----------
    folder : str or Path
        Run folder for labels.db and model.h5; new or empty unless `resume`.
    plan : LabellingPlan
        How labels are made.
    config : FitConfig
        Terms or preset, and noises.
    rules : Rules
        When to ask.
    frames : list of ase.Atoms
        Labelled data to start from.
    start_model : str or Path
        Model whose terms, noises and sparse points it starts with; needs `frames`.
    resume : bool
        Whether the folder may hold labels already.

    Raises
    ------
    ConfigError, RunFolderError, ModelFileError
        Before anything is written, where it can be told.
    """

    def __init__(
        self,
        folder: str | Path,
        plan: LabellingPlan,
        *,
        config: FitConfig | None = None,
        rules: Rules | None = None,
        frames: list[Atoms] | None = None,
        start_model: str | Path | None = None,
        resume: bool = False,
    ):
        self._start_model = None if start_model is None else load_model(start_model)
        self._config, self._rules, self.frames = config or FitConfig(), rules or Rules(), frames or []
        self.plan = plan
        self._resources = ExitStack()
        self.folder, self.source = self._resources.enter_context(opened_source(plan, folder, resume))
        self.learner: Learner | None = None
        self.learned_keys: list[str] = []
        self.set_aside: list[str] = []
        self.queue: list[Query] = []
        self._unsaved_seconds, self._save_seconds = 0.0, 0.0

    def prepare(self, species: tuple[int, ...], state: dict | None = None) -> None:
        """Make the learner for these elements and those of the data; learn what is known.

        That is the data and, with `state`, what it says; without, all labels of the folder, as a script wants it that goes
        on where another ended. A run that starts afresh gives an empty state: {}.
        """
        present = set(species) | {int(z) for frame in self.frames for z in frame.numbers}
        self.learner = Learner(self._config, tuple(sorted(present)), self._rules)
        self._keep_start()
        store = self.source.store
        if state is None:
            state = self._state_of_labels()
        self.learned_keys, self.set_aside = list(state.get("learned", [])), list(state.get(SET_ASIDE, []))
        stored = [store.get(key).atoms for key in self.learned_keys]
        self.learner.begin(self.frames, stored, self._start_model, state.get("learner"), self._saved_fit())
        self.queue = [Query.restore(values) for values in state.get("queue", [])]
        for query in self.queue:
            self.source.request(query.atoms)
        if self.learner.model is not None:
            self._save_model()

    def state(self) -> dict:
        """What `prepare` needs besides the labels."""
        return {
            "learned": self.learned_keys,
            SET_ASIDE: self.set_aside,
            "learner": self.learner.state(),
            "queue": [query.state() for query in self.queue],
        }

    def ask(self, atoms: Atoms, before: Before | None, reason: str, walker: str, step: int) -> Query:
        """Have a label started; it comes by `settle`."""
        self.learner.n_asked += 1
        return Query(self.source.request(atoms), bare_structure(atoms), before, reason, walker, step)

    def known(self, atoms: Atoms) -> Answer | None:
        """The label of this very structure if it has been learned, or set aside; nothing is asked for."""
        key = key_of(self.source.labeller, atoms)
        if key not in self.learned_keys and key not in self.set_aside:
            return None
        query = Query(key, bare_structure(atoms), None, "known", "", 0)
        return Answer(query, self.source.store.get(key).atoms, None, False, None)

    def learn_found(self, walker: str, step: int) -> int:
        """Learn what an interrupted run had paid for and not learned, where nobody will ask for it bit for bit again; how many
        these are. Labels that its workers are still at are waited for."""
        self.source.wait_for_others()
        expected = {*self.learned_keys, *self.set_aside, *(query.key for query in self.queue)}
        found = [key for key in self.source.store.keys if key not in expected]
        for key in found:
            stored = self.source.store.get(key)
            model = self.learner.model
            prediction = None if model is None else model.predict(stored.atoms, uncertainty=True)
            before = self.learner.before(prediction)
            self.learner.n_asked += 1
            query = Query(key, bare_structure(stored.atoms), before, "found", walker, step)
            self._answer(query, Outcome(key, stored.atoms, False))
        return len(found)

    def enqueue(self, query: Query) -> None:
        """Let a label come when it comes; `poll` sees to it."""
        self.queue.append(query)

    def poll(self, wait: bool = False) -> list[Answer]:
        """Learn what has come of the queue, or wait for all of it; in the order in which it was asked for."""
        answers = []
        for query in list(self.queue):
            outcome = self.source.wait(query.key) if wait else self.source.outcome(query.key)
            if outcome is not None:
                self.queue.remove(query)
                answers.append(self._answer(query, outcome))
        return answers

    def wait_for_queue(self) -> None:
        """Return when all labels under way are on the disk: they are learned when the run goes on."""
        for query in self.queue:
            self.source.wait(query.key)

    def settle(self, query: Query) -> Answer:
        """Wait for a label and learn it.

        Raises
        ------
        LabelError
            If it failed, unless the plan is to go on then and there is a model.
        """
        return self._answer(query, self.source.wait(query.key))

    def _answer(self, query: Query, outcome: Outcome) -> Answer:
        if outcome.atoms is None:
            if self.plan.on_failure == "stop" or self.learner.model is None:
                record = self.source.failed / f"{outcome.key}.json"
                raise LabelError(f"{outcome.failure}; see {record}, and delete it to ask again with --resume")
            log.warning("going on without a label: %s", outcome.failure)
            return Answer(query, None, None, outcome.paid, outcome.failure)
        if (
            query.key in self.learned_keys or query.key in self.set_aside
        ):  # an optimiser that comes back to where it was
            return Answer(query, outcome.atoms, None, outcome.paid, None)
        doubt = self.learner.doubt(outcome.atoms)
        if doubt is not None:
            self._set_aside(query, doubt)
            return Answer(query, outcome.atoms, None, outcome.paid, None)
        return Answer(query, outcome.atoms, self._learn(query, outcome.atoms), outcome.paid, None)

    def _set_aside(self, query: Query, doubt: str) -> None:
        """Keep a label that is not learned; LabelError where there is nothing else to go on with."""
        self.source.store.annotate(
            query.key, reason=query.reason, walker=query.walker, walker_step=query.step, set_aside=doubt
        )
        if self.learner.model is None:
            raise LabelError(f"label {query.key[:12]} is not learned: {doubt}; start from another structure")
        self.set_aside.append(query.key)
        log.warning("label %s is kept but not learned: %s", query.key[:12], doubt)

    def _learn(self, query: Query, atoms: Atoms) -> Lesson:
        started = time.monotonic()
        lesson = self.learner.learn(atoms, query.before, query.reason in CHOSEN_REASONS)
        self.learner.checked(lesson, query.reason == "check")
        seconds = time.monotonic() - started
        self._unsaved_seconds += seconds
        self.learned_keys.append(query.key)
        self._annotate(query, lesson, seconds)
        self._save_model()
        if self._unsaved_seconds > SAVE_AFTER * self._save_seconds:
            self._save_fit()
        return lesson

    def _annotate(self, query: Query, lesson: Lesson, seconds: float) -> None:
        """Keep with the label what the run knew when it asked, and what it made of it."""
        numbers: dict[str, float | int | str] = {
            "model_version": self.learner.model_version, "reason": query.reason, "walker": query.walker,
            "walker_step": query.step, "refit_seconds": seconds, "expected_error_after": lesson.expected_after,
            CHECK_INTERVAL: self.learner.check_interval,
        }  # fmt: skip
        data: dict[str, Any] = {}
        if query.before is not None:
            data = {"predicted_forces": query.before.forces, "predicted_energy": query.before.energy}
        if lesson.observation is not None:
            numbers |= {"force_error": lesson.force_error, "expected_error": lesson.expected}
            seen = lesson.observation
            numbers |= {
                "expected_rms": lesson.expected_rms,
                SEEN + "raw_rms": seen.raw_rms,
                SEEN + "raw_max": seen.raw_max,
            }
            data |= {"predicted_forces_std": lesson.forces_std, OBSERVATION: seen.state()}
        self.source.store.annotate(query.key, data=data, **numbers)

    def _keep_start(self) -> None:
        if self.frames:
            infos = [{"config_type": labelled(atoms).config_type} for atoms in self.frames]
            with speaking(self.folder / START_DATA):
                write_exact_xyz(self.folder / START_DATA, self.frames, infos)
        if self._start_model is not None:
            self._start_model.save(self.folder / START_MODEL)

    def _state_of_labels(self) -> dict:
        """The state of a learner that has learned all labels of the folder, as far as these tell."""
        rows = self.source.store.rows()
        aside = [row.key_value_pairs["label_key"] for row in rows if SET_ASIDE in row.key_value_pairs]
        seen = [row.data[OBSERVATION] for row in rows if OBSERVATION in row.data]
        learner = {"n_asked": len(rows), "history": seen}
        intervals = [row.key_value_pairs[CHECK_INTERVAL] for row in rows if CHECK_INTERVAL in row.key_value_pairs]
        if intervals:
            learner["check_interval"] = intervals[-1]
        learned = [key for key in self.source.store.keys if key not in aside]
        return {"learned": learned, SET_ASIDE: aside, "learner": learner}

    def _save_model(self) -> None:
        self.learner.model.save(self.folder / MODEL_FILE)

    def _saved_fit(self) -> Fit | None:
        """What an earlier run left, so that nothing need be learned again."""
        file = self.folder / FIT_FILE
        if not file.exists():
            return None
        try:
            return Fit.load(file)
        except ModelFileError as error:
            log.warning("%s; all labels are learned anew", error)
            return None

    def _save_fit(self) -> None:
        """Keep what a later run would have to learn again; it is large, so not after every label."""
        started = time.monotonic()
        self.learner.fit.save(self.folder / FIT_FILE)
        self._save_seconds, self._unsaved_seconds = time.monotonic() - started, 0.0

    def close(self) -> None:
        """Keep what was learned; let workers and folder go."""
        try:
            if self.learner is not None and self._unsaved_seconds and self.learner.fit.is_whole:
                self._save_fit()
        finally:
            self._resources.close()

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *exception) -> None:
        self.close()
