"""Everything that a run folder tells, read without touching it: the run may be going on, or have been killed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.formula import Formula

from ..labels.plan import FAILED
from ..labels.store import read_rows
from ..learning.campaign import MODEL_FILE
from ..learning.level_fit import CHEAP
from ..learning.log_format import LOG, TRAJECTORY
from ..learning.run_folder import holder_of, read_state
from ..models.files import inspect_model
from ..models.sparse_gp import SparseGP
from ..units import MILLI
from .log_file import read_log


@dataclass(frozen=True)
class RunLabel:
    """A row of labels.db.

    Parameters
    ----------
    row : ase.db.row.AtomsRow
    values : dict
        Its key-value pairs.
    """

    row: Any
    values: dict[str, Any]

    @property
    def reason(self) -> str:
        """Why it was asked for; a label that was paid for and not learned yet has no reason."""
        return self.values.get("reason", "not learned")

    @property
    def walker(self) -> str:
        """Origin of the request."""
        return str(self.values.get("walker", "-"))

    @property
    def was_predicted(self) -> bool:
        """Whether the model had predicted it before it learned it."""
        return "force_error" in self.values

    @property
    def scale(self) -> float:
        """Scale factor of the calibration when this label was learned."""
        raw = self.values["seen_raw_max"]
        return self.values["expected_error"] / raw if raw > 0 else float("nan")

    @property
    def expected_rms(self) -> float:
        """Expected root mean square error of its force components before it was learned, eV/A."""
        return self.scale * self.values["seen_raw_rms"]

    @property
    def energy_error(self) -> float:
        """Predicted minus labelled, meV/atom."""
        return (self.row.data["predicted_energy"] - self.row.energy) / self.row.natoms / MILLI

    @cached_property
    def forces_std(self) -> np.ndarray | None:
        """Deviations (n_atoms, 3) of the forces predicted before, eV/A; None where they were not kept."""
        return self.row.data.get("predicted_forces_std")

    @cached_property
    def errors(self) -> np.ndarray:
        """Predicted minus labelled forces (n_atoms, 3), eV/A."""
        return self.row.data["predicted_forces"] - self.row.forces

    @property
    def least_certain(self) -> int | None:
        """The atom whose force had the largest deviation."""
        std = self.forces_std
        return None if std is None else int(np.argmax(np.sum(std**2, axis=1)))

    @property
    def atoms(self) -> Atoms:
        """The structure with its results."""
        return self.row.toatoms()


@dataclass(frozen=True)
class RunWalker:
    """Data of a walker; None for values that were not written because the run was killed.

    Parameters
    ----------
    name : str
    numbers : (n_atoms,) int array or None
    ensemble : str or None
    trajectory : Path
    n_beads : int
        Structures of a step.
    temperature : float or None
        K, where a server runs the dynamics and it was told.
    """

    name: str
    numbers: np.ndarray | None
    ensemble: str | None
    trajectory: Path
    n_beads: int = 1
    temperature: float | None = None

    @property
    def formula(self) -> str:
        """As chemists write it."""
        return "-" if self.numbers is None else Formula.from_list(Atoms(self.numbers).symbols).format("hill")


@dataclass(frozen=True)
class Run:
    """A run folder as it is now.

    Parameters
    ----------
    folder : Path
    log : dict of str to array
        Columns of log.csv.
    labels : list of RunLabel
        In the order in which they were learned; those that were not learned come last.
    walkers : list of RunWalker
    state : dict
        state.json, {} before there is one.
    failures : list of dict
        Records of labels that failed for good.
    holder : dict or None
        The process that is at it.
    model : SparseGP or None
    cheap_labels : list of RunLabel
        Of the cheap level, in a run with two levels of labels.
    """

    folder: Path
    log: dict[str, np.ndarray]
    labels: list[RunLabel]
    walkers: list[RunWalker]
    state: dict[str, Any]
    failures: list[dict[str, Any]]
    holder: dict | None
    model: SparseGP | None
    cheap_labels: list[RunLabel] = field(default_factory=list)

    @property
    def predicted(self) -> list[RunLabel]:
        """Labels that the model had predicted before."""
        return [label for label in self.labels if label.was_predicted]

    def of(self, walker: RunWalker) -> np.ndarray:
        """Mask of the rows of the log that are a walker's."""
        return self.log["walker"] == walker.name


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises
    ------
    RunFolderError, ModelFileError
        If it is no run, has no steps yet, or a file is damaged.
    """
    log = read_log(folder / LOG)
    state = read_state(folder) or {}
    model = folder / MODEL_FILE
    return Run(
        folder=folder,
        log=log,
        labels=read_labels(folder),
        walkers=_walkers(folder, log, state),
        state=state,
        failures=read_failures(folder),
        holder=holder_of(folder),
        model=inspect_model(model) if model.exists() else None,
        cheap_labels=read_labels(folder / CHEAP),
    )


def read_labels(folder: Path) -> list[RunLabel]:
    """Labels in the order in which they were learned, and those that were not learned after them."""
    labels = [RunLabel(row, row.key_value_pairs) for row in read_rows(folder)]
    return sorted(labels, key=lambda label: (label.values.get("model_version", np.inf), label.row.id))


def read_failures(folder: Path) -> list[dict[str, Any]]:
    """Records of labels that failed for good, and of any that cannot be read the name and why."""
    found = []
    for file in sorted((folder / FAILED).glob("*.json")):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            record = {"failure": f"the record cannot be read: {error}"}
        found.append({**record, "key": file.stem})
    return found


def _walkers(folder: Path, log: dict[str, np.ndarray], state: dict[str, Any]) -> list[RunWalker]:
    names = list(dict.fromkeys(log["walker"].tolist()))
    known = {values["name"]: values for values in state.get("walkers", [])}
    return [_walker(folder, name, known.get(name, {})) for name in names]


def _walker(folder: Path, name: str, known: dict[str, Any]) -> RunWalker:
    return RunWalker(
        name,
        known.get("numbers"),
        known.get("ensemble"),
        _trajectory(folder, name),
        max(known.get("n_beads", 1), 1),
        known.get("temperature_K"),
    )


def _trajectory(folder: Path, name: str) -> Path:
    """As `LearningRun.trajectory` names it: without the walker's name where there is only one."""
    own = folder / f"{TRAJECTORY}_{name}.xyz"
    return own if own.exists() else folder / f"{TRAJECTORY}.xyz"


def in_words(run: Run) -> str:
    """Readable status of a run."""
    if run.holder is not None:
        return (
            f"running (process {run.holder['pid']} on {run.holder['host']}); this page is of the moment it was written"
        )
    status = run.state.get("status")
    if status is None or status == "running":
        return "interrupted: no process is at it; with --resume it goes on from the last checkpoint"
    return {
        "finished": "finished: every walker made all its steps, or the server needed no more",
        "budget": "ended early: the budget of labels, wall or processor time was spent; raise it and --resume",
        "converged": "ended early: there was nothing more to learn, or all relaxations have ended",
        "deadline": "ended early: the batch job was nearly over, or a signal asked for it; --resume goes on",
        "exploded": "stopped: a simulation has blown up; --resume goes on from the last checkpoint",
    }[status]


def element_counts(labels: Sequence[RunLabel]) -> dict[int, tuple[int, int]]:
    """Counts by atomic number: number of labels in which it was the least certain atom, and number of its atoms in these labels."""
    told = [label for label in labels if label.was_predicted and label.least_certain is not None]
    worst = [int(label.row.numbers[label.least_certain]) for label in told]
    everywhere = np.concatenate([np.empty(0, int), *(label.row.numbers for label in told)])
    return {int(z): (worst.count(int(z)), int(np.sum(everywhere == z))) for z in np.unique(everywhere)}
