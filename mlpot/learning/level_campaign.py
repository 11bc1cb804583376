"""A campaign with two levels of labels: cheap ones wherever the model is uncertain, expensive ones where the difference is.

A structure that is uncertain gets a cheap label first, and the model learns it. If the expected errors of the new model are within
the limits, the simulation goes on with its prediction. If not, what is left is the uncertainty of the difference, and the structure
gets an expensive label too. Labels that test the model, or that a script asks for, are made at both levels at once.

The folder `cheap` in a run folder holds labels.db of the cheap level, with its own inbox and records of failures.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from ..errors import LabelError
from ..labellers.protocol import key_of
from ..labels.plan import LabellingPlan
from ..labels.requests import RequestResult
from ..models.prediction import Prediction
from ..settings.levels import CheapPlan
from .campaign import Campaign
from .cycle import BudgetSpent
from .label_outcome import PriorPrediction
from .level_fit import CHEAP, TwoLevelFit
from .level_learner import TwoLevelLearner
from .policy import CHOSEN_REASONS, Limits
from .queries import Answer, Query
from .run_folder import checked_executor, source_in

log = logging.getLogger(__name__)
EXPENSIVE = "expensive"
"""Name of the expensive level in rows of labels.db, under the key `level`."""


@dataclass(frozen=True)
class CheapQuery(Query):
    """A structure whose cheap label has been requested, and for whose expensive one it is too early."""


@dataclass(frozen=True)
class RefinedQuery(Query):
    """A structure for which the cheap label was enough.

    Parameters
    ----------
    refined : Prediction
        Of the model that has learned it.
    """

    refined: Prediction


class TwoLevelCampaign(Campaign):
    """A campaign whose labels have two levels; the ones of the base class are the expensive ones.

    Parameters
    ----------
    folder, plan, **options
        As for `Campaign`; `plan` says how expensive labels are made.
    cheap : CheapPlan
        How cheap labels are made, and how many.

    Raises
    ------
    ConfigError, RunFolderError, ModelFileError
        Where possible, before anything is written.
    """

    learner: TwoLevelLearner

    def __init__(self, folder: str | Path, plan: LabellingPlan, cheap: CheapPlan, **options: Any):
        self.cheap_plan = cheap
        with ExitStack() as stack:
            executor = stack.enter_context(checked_executor(cheap, Path(folder) / CHEAP))
            super().__init__(folder, plan, **options)
            try:
                self.cheap = stack.enter_context(source_in(self.folder / CHEAP, cheap, executor))
            except BaseException:
                self._resources.close()
                raise
            self._resources.push(stack.pop_all())
        self.cheap_keys: list[str] = []
        self._cheap_seconds = 0.0

    def _make_learner(self, species: tuple[int, ...], stored: list[Atoms], state: dict) -> TwoLevelLearner:
        """The learner, with the cheap labels of the data and of all labels; those that are missing are made now."""
        for atoms in (*self.frames, *stored):
            self.cheap.request(atoms)
        data = [self._cheap_label(atoms, "data") for atoms in self.frames]
        known = state.get(CHEAP)
        self.cheap_keys = list(self.cheap.store.keys if known is None else known)
        of_data = {key_of(self.cheap.labeller, atoms) for atoms in data}
        self.cheap_keys = [key for key in self.cheap_keys if key not in of_data]
        for atoms in stored:  # the run had one level of labels before
            key = key_of(self.cheap.labeller, self._cheap_label(atoms, "earlier label"))
            if key not in self.cheap_keys and key not in of_data:
                self.cheap_keys.append(key)
        labels = [self.cheap.store.get(key).atoms for key in self.cheap_keys]
        self.cheap_keys = [*(key for key in self.cheap.store.keys if key in of_data), *self.cheap_keys]
        return TwoLevelLearner(self._config, species, self._rules, data, labels)

    def _cheap_label(self, atoms: Atoms, what: str) -> Atoms:
        """The label of the cheap level of a structure that has an expensive one; LabelError if it cannot be made."""
        result = self.cheap.obtain(atoms)
        if result.atoms is None:
            raise LabelError(f"labeller {self.cheap_plan.name!r}: a label for {what} {atoms.symbols} failed: {result.failure}")
        return result.atoms

    def prepare(self, species: tuple[int, ...], state: dict | None = None) -> None:
        """As of `Campaign`."""
        super().prepare(species, state)
        for query in self.queue:
            self.cheap.request(query.atoms)

    def state(self) -> dict:
        """As of `Campaign`."""
        return {**super().state(), CHEAP: self.cheap_keys}

    def ask(self, atoms: Atoms, prior: PriorPrediction | None, reason: str, walker: str, step: int) -> Query:
        """Start a cheap label, and an expensive one unless the cheap one may be enough; `settle` waits for them."""
        self._request_cheap(atoms, walker)
        if reason not in CHOSEN_REASONS:
            return super().ask(atoms, prior, reason, walker, step)
        return CheapQuery(key_of(self.source.labeller, atoms), atoms.copy(), prior, reason, walker, step)

    def _request_cheap(self, atoms: Atoms, walker: str) -> None:
        """BudgetSpent if there are to be no more cheap labels."""
        most, asked = self.cheap_plan.max_labels, self.learner.n_cheap_asked
        if key_of(self.cheap.labeller, atoms) in self.cheap_keys:
            return
        if most is not None and asked >= most:
            raise BudgetSpent(
                f"walker {walker}: a label of {self.cheap_plan.name!r}, the cheap level, is needed, but all {asked} that max_labels "
                "of this labeller allows have been used; increase it and continue with --resume"
            )
        self.learner.n_cheap_asked += 1
        self.cheap.request(atoms)

    def followed_up(self, query: Query, limits: Limits | None) -> Query:
        """Learn the cheap label; request the expensive one unless the model that knows the cheap one is certain enough.

        Raises
        ------
        BudgetSpent
            If an expensive label is needed that the budget does not allow.
        """
        failure = self._learn_cheap(query)
        if not isinstance(query, CheapQuery):
            return query
        if failure is None:
            prediction = self.learner.fitted_model.predict(query.atoms, uncertainty=True)
            if self.learner.is_enough(prediction, query.reason, limits):
                return RefinedQuery(**vars(query), refined=prediction)
            if self.learner.rules.are_spent(self.learner.n_asked):
                raise BudgetSpent(
                    f"walker {query.walker}: an expensive label is needed, but all {self.learner.n_asked} labels that max_labels "
                    "allows have been used; increase max_labels and continue with --resume"
                )
        return super().ask(query.atoms, query.prior, query.reason, query.walker, query.step)

    def settle(self, query: Query) -> Answer:
        """As of `Campaign`; where the cheap label was enough, the answer has the prediction of the model that knows it."""
        if isinstance(query, RefinedQuery):
            return Answer(query, None, None, True, None, query.refined)
        return super().settle(query)

    def _answer(self, query: Query, result: RequestResult) -> Answer:
        if result.atoms is not None and (failure := self._learn_cheap(query)) is not None:
            result = RequestResult(result.key, None, result.paid, failure)
        answer = super()._answer(query, result)
        if answer.outcome is not None:
            self.source.store.annotate(query.key, level=EXPENSIVE)
        return answer

    def _learn_cheap(self, query: Query) -> str | None:
        """Wait for a cheap label and learn it; why that is impossible, or None.

        Raises
        ------
        LabelError
            If it failed, unless the plan is to go on without it and there is a model.
        """
        key = self.cheap.request(query.atoms)
        if key in self.cheap_keys:
            return None
        result = self.cheap.wait(key)
        failure = result.failure if result.atoms is None else self.learner.doubt(result.atoms)
        if result.atoms is None or failure is not None:
            said = f"labeller {self.cheap_plan.name!r}: label {key[:12]} of the cheap level cannot be learned: {failure}"
            if self.plan.on_failure == "stop" or self.learner.model is None:
                raise LabelError(f"{said}; see {self.cheap.failed}, and delete its record there to try again with --resume")
            log.warning("continuing without a label: %s", said)
            return said
        started = time.monotonic()
        self.learner.learn_cheap(result.atoms)
        seconds = time.monotonic() - started
        self._unsaved_seconds += seconds
        if result.paid:
            self._cheap_seconds += self.cheap.store.seconds(key) * self.cheap_plan.cores / self.plan.cores
        self.cheap_keys.append(key)
        self.cheap.store.annotate(
            key, level=CHEAP, reason=query.reason, walker=query.walker, walker_step=query.step, refit_seconds=seconds,
            model_version=self.learner.model_version,
        )  # fmt: skip
        if self.learner.model is not None:
            self._save_model()
        return None

    def learn_found(self, walker: str, step: int) -> int:
        """As of `Campaign`, at both levels; returns the number of expensive labels found."""
        self.cheap.wait_for_others()
        for key in self.cheap.store.keys:
            if key not in self.cheap_keys:
                atoms = self.cheap.store.get(key).atoms
                self.learner.n_cheap_asked += 1
                self._learn_cheap(Query(key, atoms, None, "found", walker, step))
        return super().learn_found(walker, step)

    def wait_for_queue(self) -> None:
        """As of `Campaign`, at both levels."""
        super().wait_for_queue()
        for query in self.queue:
            self.cheap.wait(self.cheap.request(query.atoms))

    def seconds_of(self, answer: Answer) -> float:
        """As of `Campaign`, with the time of cheap labels since the last call, in units of the cores of an expensive one."""
        seconds, self._cheap_seconds = self._cheap_seconds, 0.0
        return seconds + (0.0 if answer.atoms is None else super().seconds_of(answer))

    def interrupt_with(self, check: Any) -> None:
        """As of `Campaign`, at both levels."""
        super().interrupt_with(check)
        self.cheap.interrupt = check

    @property
    def labels_in_words(self) -> str:
        """As of `Campaign`, at both levels."""
        cheap = self.learner.n_cheap if self.is_prepared else 0
        return f"{super().labels_in_words} and {cheap} of the cheap level"

    def _load_fit(self, file: Path) -> TwoLevelFit:
        return TwoLevelFit.load(file)


def campaign_of(folder: str | Path, plan: LabellingPlan, cheap: CheapPlan | None = None, **options: Any) -> Campaign:
    """A campaign with one level of labels, or with two; arguments as of `Campaign` and `TwoLevelCampaign`."""
    return Campaign(folder, plan, **options) if cheap is None else TwoLevelCampaign(folder, plan, cheap, **options)
