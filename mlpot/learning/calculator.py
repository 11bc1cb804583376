"""ASE calculators that ask for a label when they do not know, and learn from it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ..drivers.ase import OneAtATime, ase_results, changes, check_keywords
from ..errors import ConfigError, LabelError
from ..labellers.calculator import DEFAULT_CALCULATOR
from ..labels.plan import LabellingPlan, plan_for
from ..models.prediction import Prediction, Uncertainty, expected_errors
from ..neighbours import NeighbourList
from ..settings.fit import FitConfig
from ..structures import stress_voigt, volume_of
from .campaign import Answer, Campaign, Query
from .confirmation import Confirmation, confirmation, trust
from .events import BudgetSpent, Event, LabelNeeded
from .pace import Pace
from .policy import Decision, Rules, Use
from .purpose import PURPOSES, Asked, Memory, Purpose, use_of

log = logging.getLogger(__name__)
CONFIRM = "confirm"


class CampaignCalculator(OneAtATime):
    """A walker's view of a campaign: predicts, decides, and leaves it to a subclass how a label is come by.

    Parameters
    ----------
    campaign : Campaign
        Prepared.
    walker : str
        Its name.
    observe : callable
        Called with an `Event` after every calculation.

    Attributes
    ----------
    pace : Pace
    wants_stress : bool
        Whether the stress is used, so that its expected error counts.
    early : bool
        Whether the first answers of a run may be less certain than later ones; see `Use`.

    Notes
    -----
    After a calculation that was labelled, `results` are the label's own; its local energies are those of the model that
    has learned it, shifted to add up to the label's energy. `uncertainty` holds what `MlpotCalculator` puts there, of the
    model as it is then.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(self, campaign: Campaign, walker: str, observe: Callable[[Event], None] | None = None, **kwargs):
        super().__init__(**kwargs)
        self.campaign, self.walker, self.observe = campaign, walker, observe
        self.uncertainty = Uncertainty()
        self.pace, self.wants_stress, self.early = Pace(), False, True
        self._neighbours: NeighbourList | None = None

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, of all that the energy depends on."""
        return changes(self.atoms, atoms)

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """Predict; when the prediction cannot be trusted, label, learn, and go on from the label."""
        super().calculate(atoms, list(properties), system_changes)
        self._respond(self.predict())

    def _respond(self, prediction: Prediction | None) -> None:
        """Decide on a prediction for the present atoms, and answer."""
        decision = self._decide(prediction)
        if decision.action in ("label", "stop") or decision.reason == "known":
            known = self.campaign.known(self.atoms)
            if known is not None:
                self._finish(replace(decision, action="go on", reason="known"), known, prediction)
                return
        if decision.action == "stop":
            raise BudgetSpent(
                f"walker {self.walker} needs a label ({decision.why}) and all {self.campaign.learner.n_asked} of max_labels "
                "are spent; raise max_labels and resume"
            )
        if decision.label:
            self._finish(decision, self._labelled(decision, prediction), prediction)
            return
        query = None
        if decision.action == "queue":
            query = self._query(decision, prediction, self.atoms)
            self.pace.last_check = self.pace.step
        self._use(prediction)
        self._tell(Event(decision, prediction, queued=query))

    def predict(self) -> Prediction | None:
        """What the present model says of the present atoms; None before there is a model."""
        model = self.campaign.learner.model
        if model is None:
            return None
        if self._neighbours is None or self._neighbours.cutoff != model.cutoff:
            self._neighbours = NeighbourList(model.cutoff)
        return model.predict_pairs(self._neighbours.update(self.atoms), volume_of(self.atoms), uncertainty=True)

    def _labelled(self, decision: Decision, prediction: Prediction | None) -> Answer:
        """The label of the present atoms, or LabelNeeded."""
        raise NotImplementedError

    def _decide(self, prediction: Prediction | None) -> Decision:
        queued = sum(query.walker == self.walker for query in self.campaign.queue)
        return self.campaign.learner.decide(prediction, self.atoms, self.pace, queued, self._use_of(prediction))

    def _use_of(self, prediction: Prediction | None) -> Use:
        """What the answer is used for."""
        return Use(stress=self.wants_stress, early=self.early)

    def _query(self, decision: Decision, prediction: Prediction | None, atoms: Atoms) -> Query:
        before = self.campaign.learner.before(prediction)
        query = self.campaign.ask(atoms, before, decision.reason, self.walker, self.pace.step)
        self.pace.last_label = self.pace.step
        return query

    def _finish(self, decision: Decision, answer: Answer, prediction: Prediction | None) -> None:
        """Go on from a label, or from the prediction where there is none."""
        if answer.atoms is None:
            self._use(prediction)
        else:
            after = answer.lesson.after if answer.lesson else self.predict()
            self.results = self._label_results(answer, after)
            self.uncertainty = Uncertainty(after)
        self._tell(Event(decision, prediction, answer))

    def _label_results(self, answer: Answer, after: Prediction) -> dict:
        """Results of a label; `after` is what the model says now."""
        known, names = answer.atoms.calc.results, ("energy", "free_energy", "forces", "stress")
        results = {name: known[name] for name in names if name in known}
        results["energies"] = after.energies + (results["energy"] - after.energy) / len(self.atoms)
        return results

    def _use(self, prediction: Prediction) -> None:
        self.results = ase_results(prediction)
        self.uncertainty = Uncertainty(prediction)

    def _tell(self, event: Event) -> None:
        self.pace.step += 1
        if self.observe:
            self.observe(event)


class WalkerCalculator(CampaignCalculator):
    """For a simulation that can repeat a step: `LabelNeeded` ends it, `give` provides the answer for its repetition."""

    _given: tuple[LabelNeeded, Answer] | None = None

    def give(self, needed: LabelNeeded, answer: Answer) -> None:
        """What the next calculation, of the atoms that needed it, is to find."""
        self._given = needed, answer

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """As the base class; what was given counts once."""
        if self._given is None:
            return super().calculate(atoms, properties, system_changes)
        needed, answer = self._given
        self._given = None
        Calculator.calculate(self, atoms, list(properties), system_changes)
        if changes(needed.atoms, self.atoms):
            raise LabelError(f"walker {self.walker}: a repeated step led elsewhere; the integrator keeps a state of its own")
        return self._finish(needed.decision, answer, needed.prediction)

    def _labelled(self, decision: Decision, prediction: Prediction | None) -> Answer:
        raise LabelNeeded(decision, prediction, self.atoms)

    def query(self, needed: LabelNeeded) -> Query:
        """Ask for the label that was needed."""
        return self._query(needed.decision, needed.prediction, needed.atoms)


class LearningCalculator(CampaignCalculator):
    """Works wherever an ASE calculator does: dynamics, optimisers, cell filters, NEB, finite differences, scans.

    The energy, forces and stress that it returns are trusted while their expected errors are within the targets of `rules`; the
    stress from when it is asked for the first time. What else an answer must be good for is seen from the structures, see
    `purpose`. The same script gets the same labels every time, unless `asynchronous`.

    Parameters
    ----------
    folder : str or Path
        Run folder for labels.db and model.h5; new or empty unless `resume`.
    calculator : str, class, callable or ase.calculators.calculator.Calculator
        The ASE calculator that makes labels, by default GFN1-xTB of tblite: its import path, its class, a function that makes it,
        or itself; one that cannot be pickled makes labels in this process.
    parameters : dict
        Keyword arguments of the class or function.
    species : iterable of int
        Atomic numbers that will occur; those of the first structure by default.
    config : FitConfig
        Terms or preset, and noises.
    threshold : float or "adaptive"
        Largest expected error of a force that is trusted, eV/A.
    max_labels : int or None
        Raise `BudgetSpent` when more would be needed.
    rules : Rules
        Finer rules than these two, which then replace those in it.
    frames : list of ase.Atoms
        Labelled data to start from.
    start_model : str or Path
        Model whose terms, noises and sparse points it starts with; needs `frames`.
    resume : bool
        Whether the folder may hold labels already; they are learned first.
    observe : callable
        Called with an `Event` after every calculation.
    tries, timeout
        Calculations before a label is given up; seconds after which one is killed.
    labelling : LabellingPlan
        All that can be said of labels; `calculator`, `parameters`, `tries` and `timeout` are not read then.
    purpose : str
        "dynamics": the targets decide; "differences": force constants and elastic constants are wanted, so that expected errors
        must be small compared with the answers; "auto": each structure tells, by what distinguishes it from those before.
    asynchronous : bool
        Whether labels that nobody waits for come when they come, rather than before the next calculation.

    Notes
    -----
    At the end of a `with` block whose last answer was predicted, a warning says how far off it is expected to be; `confirm`
    checks it.
    """

    def __init__(
        self,
        folder: str | Path,
        calculator: Any = DEFAULT_CALCULATOR,
        parameters: dict[str, Any] | None = None,
        *,
        species: Iterable[int] | None = None,
        config: FitConfig | None = None,
        threshold: float | Literal["adaptive"] = "adaptive",
        max_labels: int | None = None,
        rules: Rules | None = None,
        frames: list[Atoms] | None = None,
        start_model: str | Path | None = None,
        resume: bool = False,
        observe: Callable[[Event], None] | None = None,
        tries: int = 2,
        timeout: float | None = None,
        labelling: LabellingPlan | None = None,
        purpose: Purpose = "auto",
        asynchronous: bool = False,
        **kwargs,
    ):
        check_keywords(type(self), kwargs)
        if purpose not in PURPOSES:
            raise ConfigError(f"purpose = {purpose!r}: must be one of {', '.join(map(repr, PURPOSES))}")
        plan = labelling or plan_for(calculator, parameters or {}, timeout, tries)
        campaign = Campaign(
            folder, plan, config=config, rules=(rules or Rules()).changed(threshold=threshold, max_labels=max_labels),
            frames=frames, start_model=start_model, resume=resume,
        )  # fmt: skip
        super().__init__(campaign, "script", observe, **kwargs)
        self._species = None if species is None else tuple(sorted(set(species)))
        self.purpose, self.asynchronous = purpose, asynchronous
        self._memory = Memory()
        self._prediction: Prediction | None = None
        self._is_dynamics = False
        self._is_predicted = False

    def __repr__(self) -> str:
        learned = "nothing learned" if self.learner is None else f"{self.learner.n_labels} labels, {self.learner.model!r}"
        return f"LearningCalculator({str(self.campaign.folder.path)!r}, {self.campaign.plan.calculator}: {learned})"

    def __reduce__(self):
        """Refused, also to copy.deepcopy."""
        raise ConfigError(
            f"the LearningCalculator of {self.campaign.folder.path} cannot be copied: two would write one run folder. Use it for "
            "all structures, one after the other or in threads, or copy mlpot.MlpotCalculator(calculator.learner.model)"
        )

    @property
    def learner(self):
        """Of the campaign; None before the first calculation."""
        return self.campaign.learner

    def prepare(self, species: Iterable[int]) -> None:
        """Make the learner for these elements, and learn the data and the labels of the folder; the first calculation does."""
        self.campaign.prepare(tuple(sorted({int(z) for z in species})))

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """As the base class; labels that were queued are learned before.

        The stress of a predicted structure is among the results only where it was asked for: when it is asked for later, that is
        another decision on the same prediction.
        """
        self.wants_stress |= "stress" in properties
        if not system_changes and self._is_predicted:
            self.pace.step -= 1  # the same step again
            self._respond(self._prediction)
            return
        if self.campaign.learner is None:
            self.prepare(self._species or (self.atoms if atoms is None else atoms).numbers.tolist())
        self.campaign.poll(wait=not self.asynchronous)
        super().calculate(atoms, properties, system_changes)

    def confirm(self, atoms: Atoms | None = None) -> Confirmation:
        """Label a structure, learn it, and say how far off its prediction was.

        Afterwards `atoms` has the energy and forces of the label. A structure that has been labelled is not labelled again.

        Parameters
        ----------
        atoms : ase.Atoms
            By default the structure of the last calculation.

        Raises
        ------
        BudgetSpent
            If `max_labels` does not allow it.
        LabelError
            If the label failed, whatever the plan says of failures.
        """
        with self._lock:
            return self._confirm(atoms)

    def _confirm(self, atoms: Atoms | None) -> Confirmation:
        if atoms is None and self.atoms is None:
            raise ConfigError("confirm: nothing has been calculated yet; pass the structure")
        is_same = self._is_predicted and (atoms is None or not changes(self.atoms, atoms))
        Calculator.calculate(self, atoms, ["energy"], [])
        if self.campaign.learner is None:
            self.prepare(self._species or self.atoms.numbers.tolist())
        self.campaign.poll(wait=True)
        learner, prediction = self.campaign.learner, self._prediction if is_same else self.predict()
        errors = None if prediction is None else expected_errors(prediction)
        decision = Decision(
            "label", CONFIRM, None if errors is None else errors.force,
            None if prediction is None else float(prediction.novelty.max()), None, errors,
        )  # fmt: skip
        answer = self.campaign.known(self.atoms)
        if answer is None:
            if learner.rules.are_spent(learner.n_asked):
                raise BudgetSpent(f"all {learner.n_asked} of max_labels are spent; raise max_labels to confirm")
            answer = self.campaign.settle(self._query(decision, prediction, self.atoms))
        if answer.atoms is None:
            raise LabelError(f"the structure cannot be confirmed: {answer.failure}")
        self._finish(decision, answer, prediction)
        return confirmation(answer.lesson, learner.rules, self.wants_stress)

    def _labelled(self, decision: Decision, prediction: Prediction | None) -> Answer:
        return self.campaign.settle(self._query(decision, prediction, self.atoms))

    def _query(self, decision: Decision, prediction: Prediction | None, atoms: Atoms) -> Query:
        query = super()._query(decision, prediction, atoms)
        if decision.action == "queue":
            self.campaign.enqueue(query)
        return query

    def _use_of(self, prediction: Prediction | None) -> Use:
        use, self._is_dynamics = use_of(self.purpose, self._memory, self.atoms, prediction, self.wants_stress)
        return use

    def _use(self, prediction: Prediction) -> None:
        super()._use(prediction)
        if not self.wants_stress:
            self.results.pop("stress", None)
        self._prediction, self._is_predicted = prediction, True

    def _finish(self, decision: Decision, answer: Answer, prediction: Prediction | None) -> None:
        self._is_predicted = False
        super()._finish(decision, answer, prediction)

    def _label_results(self, answer: Answer, after: Prediction) -> dict:
        results = super()._label_results(answer, after)
        if self.wants_stress and "stress" not in results and after.stress is not None:
            results["stress"] = stress_voigt(after.stress)  # of a labeller that has none
        return results

    def _tell(self, event: Event) -> None:
        self._memory.note(Asked(self.atoms, self.results["forces"], self.results.get("stress")))
        super()._tell(event)

    def close(self) -> None:
        """Wait for labels under way, keep what was learned; let workers and folder go."""
        with self.campaign:
            self.campaign.poll(wait=True)

    def __enter__(self) -> LearningCalculator:
        return self

    def __exit__(self, kind, *exception) -> None:
        if kind is None:
            if self._is_predicted and not self._is_dynamics:
                log.warning("%s", trust(self._prediction, self.wants_stress))
            self.close()
        else:
            self.campaign.close()
