"""A campaign: one model, the labels it is made of, and the run folder that holds both; any number of walkers share it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ase import Atoms

from ..durable import as_run_folder_error
from ..errors import LabelError, ModelFileError, counted
from ..fitting.incremental import Fit
from ..labellers.protocol import key_of
from ..labels.plan import LabellingPlan
from ..labels.requests import RequestResult
from ..models.files import inspect_model, prepare
from ..settings.fit import FitConfig
from ..structures import bare_structure, labelled, write_exact_xyz
from .label_outcome import LabelOutcome, PriorPrediction
from .learned_targets import TargetLearner
from .learner import Learner
from .level_fit import CHEAP, TwoLevelFit
from .policy import CHOSEN_REASONS, Limits, Rules
from .queries import Answer, Query
from .run_folder import opened_source

log = logging.getLogger(__name__)

MODEL_FILE, FIT_FILE = "model.h5", "fit.h5"
START_DATA, START_MODEL = "start_data.xyz", "start_model.h5"
"""Copies of the data and the model that a run started from: with these and the labels the model can be refitted anywhere."""
SEEN = "seen_"
"""Prefix of numbers in labels.db that are for reports; the calibration is restored from `OBSERVATION` in the data of a row."""
OBSERVATION, SET_ASIDE, CHECK_INTERVAL = "observation", "set_aside", "check_interval"
"""Names in labels.db: the observation of a label, why it was not learned, and the interval of automatic checks after it."""
SAVE_AFTER = 10.0
"""The fit is saved once the learning since the last save has taken this many times longer than saving."""


class Campaign:
    """Requests labels, learns them in the order in which they are settled, and keeps everything on disk.

    Parameters
    ----------
    folder : str or Path
        Run folder for labels.db and model.h5; new or empty unless `resume`.
    plan : LabellingPlan
        How labels are made.
    config : FitConfig
        Terms or preset, and noises.
    rules : Rules
        When to request labels.
    frames : list of ase.Atoms
        Labelled data to start from.
    start_model : str or Path
        Model whose terms, noises and sparse points it starts with; needs `frames`.
    resume : bool
        Whether the folder may hold labels already.

    Raises
    ------
    ConfigError, RunFolderError, ModelFileError
        Where possible, before anything is written.
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
        self._start_model = None
        if start_model is not None:
            self._start_model = inspect_model(start_model)
            prepare(self._start_model, start_model)
        self._config, self._rules, self.frames = config or FitConfig(), rules or Rules(), frames or []
        self.plan = plan
        self._resources = ExitStack()
        TargetLearner(self._config, self._rules)  # refuses rules that do not fit, before anything is written
        wanted, self.target_names = tuple(t.label_key for t in self._config.targets), [t.name for t in self._config.targets]
        self.folder, self.source = self._resources.enter_context(opened_source(plan, folder, resume, wanted))
        self._learner: Learner | None = None
        self.learned_keys: list[str] = []
        self.set_aside: list[str] = []
        self.queue: list[Query] = []
        self._unsaved_seconds, self._save_seconds = 0.0, 0.0

    @property
    def is_prepared(self) -> bool:
        """Whether there is a learner."""
        return self._learner is not None

    @property
    def learner(self) -> Learner:
        """The learner that `prepare` has made."""
        if self._learner is None:
            raise RuntimeError("the campaign is not prepared yet")
        return self._learner

    def prepare(self, species: tuple[int, ...], state: dict | None = None) -> None:
        """Make the learner for these elements and the elements of the data, and learn all existing labels.

        Parameters
        ----------
        species : tuple of int
            Atomic numbers that will occur.
        state : dict or None
            From `state()`: learn the data and the labels listed there; {} for a new run. None: learn the data and all labels of
            the folder, which is what a script needs that continues where another ended.
        """
        present = set(species) | {int(z) for frame in self.frames for z in frame.numbers}
        store = self.source.store
        if state is None:
            state = self._state_of_labels()
        self.learned_keys, self.set_aside = list(state.get("learned", [])), list(state.get(SET_ASIDE, []))
        stored = [store.get(key).atoms for key in self.learned_keys]
        self._learner = self._make_learner(tuple(sorted(present)), stored, state)
        self._keep_start()
        self.learner.begin(self.frames, stored, self._start_model, state.get("learner"), self._saved_fit())
        self.queue = [Query.restore(values) for values in state.get("queue", [])]
        for query in self.queue:
            self.source.request(query.atoms)
        if self.learner.model is not None:
            self._save_model()

    def _make_learner(self, species: tuple[int, ...], stored: list[Atoms], state: dict) -> Learner:
        """The learner for these elements, before it begins with the labels `stored`."""
        if (self.folder / CHEAP).exists():
            raise self.folder.other_run("two levels of labels")
        return Learner(self._config, species, self._rules)

    def state(self) -> dict:
        """State needed by `prepare` in addition to the labels."""
        return {
            "learned": self.learned_keys,
            SET_ASIDE: self.set_aside,
            "learner": self.learner.state(),
            "queue": [query.state() for query in self.queue],
        }

    def ask(self, atoms: Atoms, prior: PriorPrediction | None, reason: str, walker: str, step: int) -> Query:
        """Start a label; `settle` waits for it."""
        self.learner.n_asked += 1
        return Query(self.source.request(atoms), bare_structure(atoms), prior, reason, walker, step)

    def followed_up(self, query: Query, limits: Limits | None) -> Query:
        """The query to `settle` after a request: with one level of labels, the same.

        Parameters
        ----------
        query : Query
            From `ask`.
        limits : Limits or None
            Largest expected errors that are trusted of the structure.
        """
        return query

    def known(self, atoms: Atoms) -> Answer | None:
        """The label of exactly this structure if it has been learned or set aside, else None; nothing is requested."""
        key = key_of(self.source.labeller, atoms)
        if key not in self.learned_keys and key not in self.set_aside:
            return None
        query = Query(key, bare_structure(atoms), None, "known", "", 0)
        return Answer(query, self.source.store.get(key).atoms, None, False, None)

    def learn_found(self, walker: str, step: int) -> int:
        """Learn the labels that an interrupted run had paid for and not learned; returns their number.

        For runs whose structures are not bitwise the same after a restart, so that these labels would never be requested again.
        Labels on which workers of that run are still busy are waited for.
        """
        self.source.wait_for_others()
        expected = {*self.learned_keys, *self.set_aside, *(query.key for query in self.queue)}
        found = [key for key in self.source.store.keys if key not in expected]
        for key in found:
            stored = self.source.store.get(key)
            model = self.learner.model
            prediction = None if model is None else model.predict(stored.atoms, uncertainty=True)
            prior = None if prediction is None else self.learner.prior(prediction)
            self.learner.n_asked += 1
            query = Query(key, bare_structure(stored.atoms), prior, "found", walker, step)
            self._answer(query, RequestResult(key, stored.atoms, False))
        return len(found)

    def enqueue(self, query: Query) -> None:
        """Do not wait for a label; `poll` learns it once it has arrived."""
        self.queue.append(query)

    def poll(self, wait: bool = False) -> list[Answer]:
        """Learn the queued labels that have arrived, or wait for all of them; in the order of the requests."""
        answers = []
        for query in list(self.queue):
            result = self.source.wait(query.key) if wait else self.source.outcome(query.key)
            if result is not None:
                self.queue.remove(query)
                answers.append(self._answer(query, result))
        return answers

    def seconds_of(self, answer: Answer) -> float:
        """Wall time of the label that was calculated for an answer, s; 0 if there is none, or it was found."""
        return self.source.store.seconds(answer.query.key) if answer.paid and answer.atoms is not None else 0.0

    def interrupt_with(self, check: Callable[[], None]) -> None:
        """Call `check` regularly while waiting for a label; an exception ends the waiting."""
        self.source.interrupt = check

    @property
    def labels_in_words(self) -> str:
        """Number of labels learned, for messages."""
        return counted(self.learner.n_labels if self.is_prepared else 0, "label")

    def wait_for_queue(self) -> None:
        """Return when all queued labels are on disk; they are learned when the run is resumed."""
        for query in self.queue:
            self.source.wait(query.key)

    def settle(self, query: Query) -> Answer:
        """Wait for a label and learn it.

        Raises
        ------
        LabelError
            If it failed, unless the plan is to go on without it and there is a model.
        """
        return self._answer(query, self.source.wait(query.key))

    def _answer(self, query: Query, result: RequestResult) -> Answer:
        if result.atoms is None:
            if self.plan.on_failure == "stop" or self.learner.model is None:
                record = self.source.failed / f"{result.key}.json"
                raise LabelError(f"{result.failure}; see {record}, and delete it to try again with --resume")
            log.warning("continuing without a label: %s", result.failure)
            return Answer(query, None, None, result.paid, result.failure)
        if query.key in self.learned_keys or query.key in self.set_aside:  # an optimiser has come back to where it was
            return Answer(query, result.atoms, None, result.paid, None)
        doubt = self.learner.doubt(result.atoms)
        if doubt is not None:
            self._set_aside(query, doubt)
            return Answer(query, result.atoms, None, result.paid, None)
        return Answer(query, result.atoms, self._learn(query, result.atoms), result.paid, None)

    def _set_aside(self, query: Query, doubt: str) -> None:
        """Keep a label without learning it; LabelError if there is no model to go on with."""
        self.source.store.annotate(
            query.key, reason=query.reason, walker=query.walker, walker_step=query.step, set_aside=doubt
        )
        if self.learner.model is None:
            raise LabelError(f"label {query.key[:12]} is not learned: {doubt}; start from a different structure")
        self.set_aside.append(query.key)
        log.warning("label %s is kept but not learned: %s", query.key[:12], doubt)

    def _learn(self, query: Query, atoms: Atoms) -> LabelOutcome:
        started = time.monotonic()
        outcome = self.learner.learn(atoms, query.prior, query.reason in CHOSEN_REASONS)
        self.learner.checked(outcome, query.reason == "check")
        seconds = time.monotonic() - started
        self._unsaved_seconds += seconds
        self.learned_keys.append(query.key)
        self._annotate(query, outcome, seconds)
        self._save_model()
        if self._unsaved_seconds > SAVE_AFTER * self._save_seconds:
            self._save_fit()
        return outcome

    def _annotate(self, query: Query, outcome: LabelOutcome, seconds: float) -> None:
        """Record with the label what the model had predicted and what the label showed."""
        numbers: dict[str, float | int | str] = {
            "model_version": self.learner.model_version, "reason": query.reason, "walker": query.walker,
            "walker_step": query.step, "refit_seconds": seconds, "expected_error_after": outcome.expected_after,
            CHECK_INTERVAL: self.learner.check_interval,
        }  # fmt: skip
        data: dict[str, Any] = {}
        if query.prior is not None:
            data = {"predicted_forces": query.prior.forces, "predicted_energy": query.prior.energy}
        if (seen := outcome.observation) is not None:
            errors = {
                "force_error": outcome.force_error, "expected_error": outcome.expected, "expected_rms": outcome.expected_rms,
                SEEN + "raw_rms": seen.raw_rms, SEEN + "raw_max": seen.raw_max,
            }  # fmt: skip
            numbers |= {name: error for name, error in errors.items() if error is not None}
            data |= {"predicted_forces_std": outcome.forces_std, OBSERVATION: seen.state()}
        self.source.store.annotate(query.key, data=data, **numbers)

    def _keep_start(self) -> None:
        if self.frames:
            infos = [{"config_type": labelled(atoms).config_type} for atoms in self.frames]
            with as_run_folder_error(self.folder / START_DATA):
                write_exact_xyz(self.folder / START_DATA, self.frames, infos)
        if self._start_model is not None:
            self._start_model.save(self.folder / START_MODEL)

    def _state_of_labels(self) -> dict:
        """The state of a learner that has learned all labels of the folder, as far as labels.db holds it."""
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
        self.learner.fitted_model.save(self.folder / MODEL_FILE)

    def _saved_fit(self) -> Fit | TwoLevelFit | None:
        """The fit that an earlier run has saved, if it can be used."""
        file = self.folder / FIT_FILE
        if not file.exists():
            return None
        try:
            return self._load_fit(file)  # used only if it agrees with the configuration
        except ModelFileError as error:
            log.warning("%s; refitting from all labels instead", error)
            return None

    def _load_fit(self, file: Path) -> Fit | TwoLevelFit:
        return Fit.load(file, trust_baseline=True)

    def _save_fit(self) -> None:
        """Save the fit, so that a later run need not learn its labels again; the file is large, so not after every label."""
        started = time.monotonic()
        self.learner.fit.save(self.folder / FIT_FILE)
        self._save_seconds, self._unsaved_seconds = time.monotonic() - started, 0.0

    def close(self) -> None:
        """Save what was learned, targets fitted to all labels; end the workers and release the folder."""
        try:
            if self._learner is not None and self.learner.complete():
                self._save_model()
            if self._learner is not None and self._unsaved_seconds and self.learner.fit.is_whole:
                self._save_fit()
        finally:
            self._resources.close()

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *exception) -> None:
        self.close()
