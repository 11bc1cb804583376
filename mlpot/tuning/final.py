"""Final fits: to all training structures, judged on structures that no trial has seen."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from ..fitting.batch import fit_checked
from ..models.evaluate import compare, errors
from ..settings.fit import FitConfig
from ..units import MILLI
from .cost import microseconds_per_atom, timed_structures
from .journal import Outcome
from .material import Material


@dataclass(frozen=True)
class FinalFit:
    """Evaluation of whole configurations, see `named`.

    Parameters
    ----------
    material : Material
    """

    material: Material

    def __call__(self, values: dict[str, Any]) -> Outcome:
        """Errors on the test structures: `forces` and `energies` are mean absolute errors; `details` has all of them."""
        started = time.process_time()
        config = FitConfig.model_validate_json(values["config"])
        config = config.model_copy(update={"seed": values["seed"], "check_labels": False})
        model = fit_checked(self.material.training, config)
        found = errors([compare(model, s) for s in self.material.test])
        energies = found.energy_mae_mev_per_atom
        return Outcome(
            forces=found.force_mae_ev_per_ang,
            energies=None if energies is None else MILLI * energies,
            cost=microseconds_per_atom(model, timed_structures(self.material.training)),
            seconds=time.process_time() - started,
            n_fits=1,
            details={**asdict(found), "n_sparse": [term.n_sparse for term in model.terms]},
        )


def named(config: FitConfig, seed: int) -> dict[str, Any]:
    """A configuration and a seed as the values of a trial; the same text for the same configuration."""
    return {"config": json.dumps(config.model_dump(mode="json", exclude_unset=True), sort_keys=True), "seed": seed}
