"""ASE calculators that ask for a label when they do not know, and learn from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ..drivers.ase import ase_results, changes
from ..errors import LabelError
from ..labellers.calculator import DEFAULT_CALCULATOR
from ..labellers.plan import LabellingPlan
from ..models.prediction import Prediction, Uncertainty
from ..models.settings import FitConfig
from ..neighbours import NeighbourList
from ..structures import volume_of
from .campaign import Answer, Campaign, Query
from .policy import Decision, Rules


class BudgetSpent(LabelError):
    """A label is needed and `max_labels` allows no more: the run ends here, cleanly."""


class LabelNeeded(Exception):
    """A walker cannot finish its step before it has a label; whoever runs it gets one and repeats the step."""

    def __init__(self, decision: Decision, prediction: Prediction | None, atoms: Atoms):
        super().__init__(decision.reason)
        self.decision, self.prediction, self.atoms = decision, prediction, atoms


@dataclass
class Pace:
    """How far a walker is: its steps, and at which of them it was labelled and checked last."""

    step: int = 0
    last_label: int = 0
    last_check: int = 0


@dataclass(frozen=True)
class Event:
    """What happened in one calculation.

    Parameters
    ----------
    decision : Decision
    prediction : Prediction or None
        That it was about.
    answer : Answer or None
        What came of a label.
    queued : Query or None
        A label that nobody waits for.
    """

    decision: Decision
    prediction: Prediction | None
    answer: Answer | None = None
    queued: Query | None = None


class CampaignCalculator(Calculator):
    """A walker's view of a campaign: predicts, decides, and leaves it to a subclass how a label is come by.

    Parameters
    ----------
    campaign : Campaign
        Prepared.
    walker : str
        Its name.
    observe : callable
        Called with an `Event` after every calculation.

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
        self.pace = Pace()
        self._neighbours: NeighbourList | None = None

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, of all that the energy depends on."""
        return changes(self.atoms, atoms)

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """Predict; when the prediction cannot be trusted, label, learn, and go on from the label."""
        super().calculate(atoms, list(properties), system_changes)
        prediction = self.predict()
        decision = self._decide(prediction)
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
        since = self.pace.step - self.pace.last_label
        return self.campaign.learner.decide(prediction, since, self.pace.step - self.pace.last_check, queued)

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
            names = ("energy", "free_energy", "forces", "stress")
            self.results = {
                name: answer.atoms.calc.results[name] for name in names if name in answer.atoms.calc.results
            }
            self.results["energies"] = after.energies + (self.results["energy"] - after.energy) / len(self.atoms)
            self.uncertainty = Uncertainty(after)
        self._tell(Event(decision, prediction, answer))

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
            raise LabelError(
                f"walker {self.walker}: a repeated step led elsewhere; the integrator keeps a state of its own"
            )
        self._finish(needed.decision, answer, needed.prediction)
        return None

    def _labelled(self, decision: Decision, prediction: Prediction | None) -> Answer:
        raise LabelNeeded(decision, prediction, self.atoms)

    def query(self, needed: LabelNeeded) -> Query:
        """Ask for the label that was needed."""
        return self._query(needed.decision, needed.prediction, needed.atoms)


class LearningCalculator(CampaignCalculator):
    """Works wherever an ASE calculator does: dynamics, optimisers, NEB.

    Parameters
    ----------
    folder : str or Path
        Run folder for labels.db and model.h5; new or empty unless `resume`.
    calculator : str
        Import path of the ASE calculator that makes labels, by default GFN1-xTB of tblite.
    parameters : dict
        Its keyword arguments.
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
    """

    def __init__(
        self,
        folder: str | Path,
        calculator: str = DEFAULT_CALCULATOR,
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
        **kwargs,
    ):
        plan = labelling or LabellingPlan(calculator, parameters or {}, timeout, tries)
        campaign = Campaign(
            folder, plan, config=config, rules=replace(rules or Rules(), threshold=threshold, max_labels=max_labels),
            frames=frames, start_model=start_model, resume=resume,
        )  # fmt: skip
        super().__init__(campaign, "script", observe, **kwargs)
        self._species = None if species is None else tuple(sorted(set(species)))

    @property
    def learner(self):
        """Of the campaign; None before the first calculation."""
        return self.campaign.learner

    def prepare(self, species: Iterable[int]) -> None:
        """Make the learner for these elements, and learn the data and the labels of the folder; the first calculation does."""
        self.campaign.prepare(tuple(sorted({int(z) for z in species})))

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """As the base class; labels that were queued are learned before."""
        if self.campaign.learner is None:
            self.prepare(self._species or (self.atoms if atoms is None else atoms).numbers.tolist())
        self.campaign.poll()
        super().calculate(atoms, properties, system_changes)

    def _labelled(self, decision: Decision, prediction: Prediction | None) -> Answer:
        return self.campaign.settle(self._query(decision, prediction, self.atoms))

    def _query(self, decision: Decision, prediction: Prediction | None, atoms: Atoms) -> Query:
        query = super()._query(decision, prediction, atoms)
        if decision.action == "queue":
            self.campaign.enqueue(query)
        return query

    def close(self) -> None:
        """Wait for labels under way, keep what was learned; let workers and folder go."""
        with self.campaign:
            self.campaign.poll(wait=True)

    def __enter__(self) -> LearningCalculator:
        return self

    def __exit__(self, kind, *exception) -> None:
        if kind is None:
            self.close()
        else:
            self.campaign.close()
