"""Cost of a run, and estimated cost of the same steps without a potential."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..learning.log_format import QUEUED
from ..units import HOUR
from .run_data import Run


@dataclass(frozen=True)
class Costs:
    """Times in s, of all starts of a run together.

    Parameters
    ----------
    wall : float
        From the first step to the last.
    dynamics : float
        Of it, steps that were predicted.
    waiting : float
        Of it, for labels.
    refit : float
        Of it, learning them.
    cpu : float
        Processor time of the simulation, labels not included.
    labels : float
        Wall time of all labels together; several may have been made at a time.
    n_labels, n_steps : int
        Steps of all walkers, the first structure of each included.
    n_structures : int
        Evaluated in these steps, of which a ring polymer has several.
    cores_per_label : int
    """

    wall: float
    dynamics: float
    waiting: float
    refit: float
    cpu: float
    labels: float
    n_labels: int
    n_steps: int
    n_structures: int
    cores_per_label: int

    @property
    def rest(self) -> float:
        """Rest of the wall time: starting, writing, labels computed in the background."""
        return max(self.wall - self.dynamics - self.waiting - self.refit, 0.0)

    @property
    def per_label(self) -> float:
        """Mean wall time of a label."""
        return self.labels / self.n_labels if self.n_labels else float("nan")

    @property
    def core_hours(self) -> float:
        """Spent: the simulation's processor time, and labels with their cores."""
        return (self.cpu + self.cores_per_label * self.labels) / HOUR

    @property
    def plain_core_hours(self) -> float:
        """Cost of plain ab initio dynamics with the same number of steps, each at the mean price of a label."""
        return self.n_structures * self.per_label * self.cores_per_label / HOUR

    @property
    def factor(self) -> float:
        """Factor by which the cost was reduced."""
        return self.plain_core_hours / self.core_hours if self.core_hours else float("nan")


def costs_of(run: Run) -> Costs:
    """Add up what log.csv, labels.db and state.json say."""
    log, spent = run.log, run.state.get("spent", {})
    labelled = log["labelled"] > 0
    refit = {label.row.id: label.values.get("refit_seconds", 0.0) for label in run.labels}
    queued = [label for label in run.labels if label.reason in QUEUED]
    seconds = {label.row.id: label.values["label_seconds"] for label in run.labels}
    hard_refit = sum(refit.values()) - sum(refit[label.row.id] for label in queued)
    dynamics = float(log["seconds"][~labelled].sum())
    # a labelled step waits for its label and for the refit; those labels of a round that were made at once share the time
    waiting = max(float(log["seconds"][labelled].sum()) - hard_refit, 0.0)
    wall = max(float(spent.get("wall", 0.0)), float(log["seconds"].sum()))
    if queued and not spent.get("asynchronous", True):
        left = wall - dynamics - waiting - sum(refit.values())
        waiting += min(sum(seconds[label.row.id] for label in queued), max(left, 0.0))
    return Costs(
        wall=wall,
        dynamics=dynamics,
        waiting=waiting,
        refit=float(np.sum(list(refit.values()))),
        cpu=float(spent.get("cpu", 0.0)),
        labels=float(np.sum(list(seconds.values()))),
        n_labels=len(seconds),
        n_steps=len(log["step"]),
        n_structures=sum(walker.n_beads * int(run.of(walker).sum()) for walker in run.walkers),
        cores_per_label=int(spent.get("cores_per_label", 1)),
    )
