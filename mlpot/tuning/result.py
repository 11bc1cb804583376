"""The result of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import counted
from ..settings.fit import FitConfig
from ..settings.tune import TuneSettings
from ..units import MILLI
from .front import Candidate
from .journal import Trial
from .space import Space


@dataclass(frozen=True)
class TuneResult:
    """Result of a search.

    Parameters
    ----------
    best : FitConfig
        The chosen configuration.
    pareto : list of Candidate
        The chosen model first, then the others on the front: more accurate or cheaper than all others.
    default : Candidate
        The configuration with which the search began.
    trials : list of Trial
        Everything in the journal.
    space : Space
    settings : TuneSettings
    n_test : int
        Number of structures that no trial has seen.
    seconds : float
        Wall time, without earlier runs of the same search.
    """

    best: FitConfig
    pareto: list[Candidate]
    default: Candidate
    trials: list[Trial]
    space: Space
    settings: TuneSettings
    n_test: int
    seconds: float

    @property
    def table(self) -> list[dict[str, Any]]:
        """One row for each trial of the search: number, step, settings, errors (eV/A, eV/atom), cost (us/atom), seconds, failure."""
        return [
            {"number": t.number, "step": t.step, **t.values, "forces": t.outcome.forces, "energies": t.outcome.energies,
             "cost": t.outcome.cost, "seconds": t.outcome.seconds, "failure": t.outcome.failure}
            for t in self.trials if t.outcome is not None and t.step != "final"
        ]  # fmt: skip

    def n_fits(self, *steps: str) -> int:
        """Number of full fits in all steps, or in the given ones."""
        return sum(t.outcome.n_fits for t in self.trials if t.outcome is not None and (not steps or t.step in steps))

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all trials and final fits."""
        return sum(t.outcome.seconds for t in self.trials if t.outcome is not None)

    def rows(self) -> list[tuple[str, ...]]:
        """Rows of `HEADS`: the default and the front, with errors on the test structures."""
        named = [("as given", self.default)] + [
            ("tuned" if k == 0 else f"tuned_{k}", candidate) for k, candidate in enumerate(self.pareto)
        ]
        return [(name, *_cells(candidate)) for name, candidate in named]

    def summary(self) -> list[str]:
        """Readable sentences."""
        done = [t for t in self.trials if t.outcome is not None]
        failed = sum(t.outcome is not None and t.outcome.failure is not None for t in done)
        final = self.n_fits("final")
        lines = [
            f"{sum(t.step != 'final' for t in done)} trials ({failed} failed), {self.cpu_seconds:.0f} CPU s; full fits: "
            f"{self.n_fits() - final} in the search, {final} to test the result"
        ]
        best, start = self.pareto[0].tested, self.default.tested
        if not start or start[0].failure is not None:
            return [*lines, f"the configuration as given cannot be fitted: {start[0].failure if start else 'not run'}"]
        for name, unit, factor in (("forces", "meV/A", MILLI), ("energies", "meV/atom", MILLI)):
            before, after = getattr(start[0], name), [v for o in best if (v := getattr(o, name)) is not None]
            if before is None or not after:
                continue
            spread = f" +- {np.std(after) / factor:.2g} over {len(after)} seeds" if len(after) > 1 else ""
            tested = counted(self.n_test, "structure")
            lines.append(
                f"{name}, MAE on {tested} that no trial saw: {np.mean(after) / factor:.3g}{spread} {unit}, "
                f"as given {before / factor:.3g} ({np.mean(after) / before:.2f} times)"
            )
        return lines


HEADS = ("model", "F MAE meV/A", "F RMSE meV/A", "E MAE meV/atom", "sparse points", "us/atom")


def _cells(candidate: Candidate) -> tuple[str, ...]:
    """The first fit of a candidate, as text."""
    first = candidate.tested[0] if candidate.tested else None
    if first is None or first.failure is not None:
        return ("failed", *[""] * (len(HEADS) - 2))
    rmse = first.details.get("force_rmse_ev_per_ang")
    numbers = (first.forces, rmse, first.energies)
    texts = ["-" if v is None else f"{v / MILLI:.3g}" for v in numbers]
    return (*texts, ", ".join(map(str, first.details["n_sparse"])), f"{first.cost:.3g}")
