"""mlpot: sparse-kernel interatomic potentials that learn while the simulation runs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Descriptor": "descriptors.protocol",
    "FeatureModel": "descriptors.model_features",
    "Fit": "fitting.incremental",
    "FitConfig": "settings.fit",
    "FitReport": "models.report",
    "Prediction": "models.prediction",
    "SparseGP": "models.sparse_gp",
    "describe": "terms.describing",
    "fit": "fitting.batch",
    "load_model": "models.files",
    "read": "data.reading",
    "read_gap": "interop.gap_xml",
    "tune": "tuning.tuner",
    "read_snap": "interop.snap",
    "validate_descriptor": "term_checks",
    "validate_labeller": "labellers.validation",
    "validate_model": "checks",
    "validate_term": "term_checks",
    "MlpotCalculator": "drivers.ase",
    "LearningCalculator": "learning.calculator",
    "MlpotError": "errors",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Public names are loaded when first used, so that a labeller's worker starts without the compiled half."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mlpot' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
