"""ASE calculators that ask for a label where their prediction cannot be trusted, and learn from it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ..drivers.ase import OneAtATime, ase_results, changes, check_keywords
from ..errors import ConfigError, LabelError, counted, quoted
from ..labellers.calculator import DEFAULT_CALCULATOR
from ..labels.plan import LabellingPlan, plan_for
from ..models.prediction import Prediction, Uncertainty
from ..neighbours import NeighbourList
from ..settings.fit import FitConfig
from ..settings.levels import CheapPlan
from ..structures import checked_species, stress_voigt, volume_of
from .campaign import Answer, Campaign
from .confirmation import Confirmation, confirmation, trust
from .cycle import Assessment, BudgetSpent, Event, LearningCycle, obtain
from .learner import Learner
from .level_campaign import campaign_of
from .policy import Rules, Use
from .purpose import PURPOSES, Purpose, RecentStructures, RequestedStructure, use_of
from .step_counters import StepCounters

__all__ = ["BudgetSpent", "CampaignCalculator", "LearningCalculator"]
log = logging.getLogger(__name__)


class CampaignCalculator(OneAtATime):
    """The calculator of one walker of a campaign: predicts and decides; a subclass says how labels are obtained.

    Parameters
    ----------
    campaign : Campaign
        Prepared before the first calculation.
    walker : str
        Name of the walker.
    observe : callable
        Called with an `Event` after every calculation.
    resume : str
        How the user continues a run whose budget is spent, for messages.

    Attributes
    ----------
    cycle : LearningCycle
    wants_stress : bool
        Whether the stress is used, so that its expected error counts.
    early : bool
        Whether the first answers of a run may be less certain than later ones; see `Use`.

    Notes
    -----
    After a labelled calculation `results` contain the label. Local energies come from the model that has learned the label,
    shifted so that they add up to the energy of the label. `uncertainty` has the keys of `MlpotCalculator.uncertainty` and
    belongs to the same model.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(
        self,
        campaign: Campaign,
        walker: str,
        observe: Callable[[Event], None] | None = None,
        resume: str = "continue with --resume",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.campaign, self.observe = campaign, observe
        self.cycle = LearningCycle(campaign, walker, resume)
        self.uncertainty = Uncertainty()
        self.wants_stress, self.early = False, True
        self._neighbours: NeighbourList | None = None

    @property
    def present(self) -> Atoms:
        """The atoms of the last calculation, or of the one under way."""
        if self.atoms is None:
            raise RuntimeError("nothing has been calculated yet")
        return self.atoms

    @property
    def counters(self) -> StepCounters:
        """Steps of the walker."""
        return self.cycle.counters

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Properties that affect the energy and have changed since the last calculation, under ASE's names."""
        return changes(self.atoms, atoms)

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """Predict; where the prediction cannot be trusted, label the structure, learn it, and return the label."""
        super().calculate(atoms, list(properties), system_changes)
        self._respond(self.predict())

    def _respond(self, prediction: Prediction | None) -> None:
        """Decide on a prediction for the present atoms, and answer."""
        self._finish(self.cycle.respond(self.cycle.assess(self.present, prediction, self._use_of(prediction)), self._label))

    def predict(self) -> Prediction | None:
        """Prediction of the present model for the present atoms; None before there is a model."""
        model = self.campaign.learner.model
        if model is None:
            return None
        if self._neighbours is None or self._neighbours.cutoff != model.cutoff:
            self._neighbours = NeighbourList(model.cutoff)
        pairs = self._neighbours.update(self.present)
        prediction = model.predict_pairs(pairs, volume_of(self.present), uncertainty=True, atoms=self.present)
        return model.compiled.with_targets(prediction, self.present, uncertainty=True)

    def _label(self, assessment: Assessment) -> Answer:
        """The label of the present atoms, or LabelNeeded."""
        raise NotImplementedError

    def _use_of(self, prediction: Prediction | None) -> Use:
        """Purpose of the results."""
        return Use(stress=self.wants_stress, early=self.early)

    def _finish(self, event: Event) -> None:
        """Return the label, or the prediction where there is no label."""
        answer = event.answer
        if answer is not None and answer.refined is not None:
            event = replace(event, prediction=answer.refined)
        if answer is None or answer.atoms is None:
            if event.prediction is None:
                raise RuntimeError("a calculation ends without a label before there is a model")
            self._return_prediction(event.prediction)
        else:
            after = answer.outcome.after if answer.outcome else self.predict()
            if after is None:
                raise RuntimeError("a label is answered before there is a model")
            self.results = self._label_results(answer.atoms, after)
            self.uncertainty = Uncertainty(after)
        self._tell(event)

    def _label_results(self, labelled: Atoms, after: Prediction) -> dict:
        """ASE's results for a labelled structure; `after` is the prediction of the model that knows the label."""
        known, names = labelled.calc.results, ("energy", "free_energy", "forces", "stress")
        results = {name: known[name] for name in names if name in known}
        results["energies"] = after.energies + (results["energy"] - after.energy) / len(self.present)
        return results

    def _return_prediction(self, prediction: Prediction) -> None:
        self.results = ase_results(prediction)
        self.uncertainty = Uncertainty(prediction)

    def _tell(self, event: Event) -> None:
        self.counters.step += 1
        if self.observe:
            self.observe(event)


class LearningCalculator(CampaignCalculator):
    """A calculator that learns in any ASE script: dynamics, optimisers, cell filters, NEB, finite differences, scans.

    Predicted energies and forces are returned if their expected errors are within the targets of `rules`; the same holds for the
    stress from the first time it is requested. How accurate they must be beyond that is inferred from the structures, see
    `purpose`. A script that is run twice makes the same labels, unless `asynchronous`.

    Parameters
    ----------
    folder : str or Path
        Run folder for labels.db and model.h5; new or empty unless `resume`.
    calculator : str, class, callable or ase.calculators.calculator.Calculator
        The ASE calculator that makes the labels, by default GFN1-xTB of tblite: its import path, its class, a function that returns
        it, or the calculator itself. One that cannot be pickled makes its labels in this process.
    parameters : dict
        Keyword arguments of the class or function.
    species : iterable of int
        Atomic numbers that will occur; the elements of the first structure by default.
    config : FitConfig
        Terms or preset, and noises.
    threshold : float or "adaptive"
        Largest expected error of a force that is trusted, eV/A.
    max_labels : int or None
        Raise `BudgetSpent` when more would be needed.
    rules : Rules
        All rules; `threshold` and `max_labels` replace those in it.
    frames : list of ase.Atoms
        Labelled data to start from.
    start_model : str or Path
        Model whose terms, noises and sparse points are used; needs `frames`.
    resume : bool
        Whether the folder may hold labels already; they are learned first.
    observe : callable
        Called with an `Event` after every calculation.
    tries, timeout
        Number of calculations before a label counts as failed; wall-time limit per calculation, s.
    labelling : LabellingPlan
        All settings of labels; `calculator`, `parameters`, `tries` and `timeout` are ignored then.
    cheap : CheapPlan
        Settings of a second, cheap level of labels; the others are then asked for only where the difference is uncertain.
    purpose : str
        "dynamics": the targets decide. "differences": for force constants and elastic constants, expected errors must be small
        compared with the results. "auto": decided for each structure from how it differs from earlier ones.
    asynchronous : bool
        Whether queued labels are learned whenever they arrive, rather than before the next calculation.

    Notes
    -----
    If the last answer in a `with` block was predicted, a warning at the end gives its expected errors; `confirm` checks it.
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
        cheap: CheapPlan | None = None,
        purpose: Purpose = "auto",
        asynchronous: bool = False,
        **kwargs,
    ):
        check_keywords(type(self), kwargs)
        if purpose not in PURPOSES:
            raise ConfigError(f"purpose = {purpose!r}: must be one of {', '.join(map(repr, PURPOSES))}")
        if not isinstance(folder, str | PathLike):
            raise ConfigError(f"folder = {quoted(folder)}: must be the path of a run folder, and come before the calculator")
        if not isinstance(rules, Rules | None):
            raise ConfigError(f"rules = {quoted(rules)}: must be Rules, or left out")
        numbers = None if species is None else checked_species(species)
        plan = labelling or plan_for(calculator, parameters or {}, timeout, tries)
        campaign = campaign_of(
            folder, plan, cheap, config=config, rules=(rules or Rules()).changed(threshold=threshold, max_labels=max_labels),
            frames=frames, start_model=start_model, resume=resume,
        )  # fmt: skip
        super().__init__(campaign, "script", observe, "start the script again with resume=True", **kwargs)
        self._species = numbers
        self.purpose, self.asynchronous = purpose, asynchronous
        self._memory = RecentStructures()
        self._prediction: Prediction | None = None
        self._is_dynamics = False
        self._is_predicted = False
        self._wanted: set[str] = set()
        self.implemented_properties = [*type(self).implemented_properties, *campaign.target_names]

    def __repr__(self) -> str:
        learner = self.learner
        learned = "nothing learned" if learner is None else f"{counted(learner.n_labels, 'label')}, {learner.model!r}"
        return f"LearningCalculator({str(self.campaign.folder.path)!r}, {self.campaign.plan.calculator}: {learned})"

    def __reduce__(self):
        """Refused, also to copy.deepcopy."""
        raise ConfigError(
            f"the LearningCalculator of {self.campaign.folder.path} cannot be copied, since two would write to the same run folder; "
            "use one for all structures, in sequence or in threads, or copy mlpot.MlpotCalculator(calculator.learner.model)"
        )

    @property
    def learner(self) -> Learner | None:
        """The learner of the campaign; None before the first calculation."""
        return self.campaign.learner if self.campaign.is_prepared else None

    def prepare(self, species: Iterable[int]) -> None:
        """Make the learner for these elements, and learn the data and the labels of the folder.

        The first calculation does this by itself.
        """
        self.campaign.prepare(tuple(sorted({int(z) for z in species})))

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """As in the base class; queued labels are learned first.

        The stress of a predicted structure is among the results only if it was requested. When it is requested later, that is
        another decision on the same prediction.
        """
        self.wants_stress |= "stress" in properties
        self._wanted |= {*properties} & {*self.campaign.target_names}
        if not system_changes and self._is_predicted:
            self.counters.step -= 1  # the same step again
            self._respond(self._prediction)
            return
        self._prepare_for(self.present if atoms is None else atoms)
        self.campaign.poll(wait=not self.asynchronous)
        super().calculate(atoms, properties, system_changes)

    def _prepare_for(self, atoms: Atoms) -> None:
        """Make the learner unless there is one; for the elements of these atoms, unless the script has named others."""
        if not self.campaign.is_prepared:
            self.prepare(self._species or atoms.numbers.tolist())

    def confirm(self, atoms: Atoms | None = None) -> Confirmation:
        """Label a structure, learn it, and return the errors of its prediction.

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
            If the label failed, whatever the plan says about failures.
        """
        with self._lock:
            return self._confirm(atoms)

    def _confirm(self, atoms: Atoms | None) -> Confirmation:
        if atoms is None and self.atoms is None:
            raise ConfigError("confirm: nothing has been calculated yet; pass the structure")
        is_same = self._is_predicted and (atoms is None or not changes(self.atoms, atoms))
        Calculator.calculate(self, atoms, ["energy"], [])
        self._prepare_for(self.present)
        self.campaign.poll(wait=True)
        prediction = self._prediction if is_same else self.predict()
        use = Use(stress=self.wants_stress, early=False)
        assessment = self.cycle.confirmation_of(self.present, prediction, use)
        answer = self.campaign.known(self.present) or self._label(assessment)
        if answer.atoms is None:
            raise LabelError(f"confirm: the structure could not be labelled: {answer.failure}")
        self._finish(Event(assessment.decision, prediction, answer))
        return confirmation(answer.outcome, self.campaign.learner.rules, self.wants_stress)

    def _label(self, assessment: Assessment) -> Answer:
        return obtain([(self.cycle, assessment)])[0]

    def _use_of(self, prediction: Prediction | None) -> Use:
        use, self._is_dynamics = use_of(self.purpose, self._memory, self.present, prediction, self.wants_stress)
        return use

    def _return_prediction(self, prediction: Prediction) -> None:
        super()._return_prediction(prediction)
        if not self.wants_stress:
            self.results.pop("stress", None)
        self.results |= self.campaign.learner.targets.results(self._wanted, prediction)
        self._prediction, self._is_predicted = prediction, True

    def _finish(self, event: Event) -> None:
        self._is_predicted = False
        super()._finish(event)

    def _label_results(self, labelled: Atoms, after: Prediction) -> dict:
        results = super()._label_results(labelled, after)
        if self.wants_stress and "stress" not in results and after.stress is not None:
            results["stress"] = stress_voigt(after.stress)  # the labeller has none
        return results | self.campaign.learner.targets.results(self._wanted, after, labelled)

    def _tell(self, event: Event) -> None:
        self._memory.note(RequestedStructure(self.present, self.results["forces"], self.results.get("stress")))
        super()._tell(event)

    def close(self) -> None:
        """Wait for labels under way and save what was learned; end the workers and release the folder."""
        with self.campaign:
            self.campaign.poll(wait=True)

    def __enter__(self) -> LearningCalculator:
        return self

    def __exit__(self, kind, *exception) -> None:
        if kind is None:
            if self._prediction is not None and self._is_predicted and not self._is_dynamics:
                log.warning("%s", trust(self._prediction, self.wants_stress))
            self.close()
        else:
            self.campaign.close()
