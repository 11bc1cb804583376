"""Export of a run: its data, its model, and all that is needed to make the model again, in a folder that stands by itself."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from ..durable import create_text, flush, temporary_name
from ..errors import MlpotError, RunFolderError
from ..fitting.task import provenance
from ..learning.campaign import MODEL_FILE, START_DATA, START_MODEL
from ..learning.run_environment import configurations, environment, environments
from ..learning.run_folder import RUN_FILES, read_state
from ..models.files import inspect_model
from ..models.sparse_gp import SparseGP
from ..structures import exact_xyz, labelled, read_structures, write_exact_xyz
from .export_contents import Contents
from .export_text import REPRODUCE, fit_toml, readme
from .run_data import RunLabel, read_failures, read_labels

LABELS = "labels.xyz"
BEHIND = 5
"""The model of a run that is going on may lack the last labels: at most this many are left out to find the ones it has."""


@dataclass(frozen=True)
class Exported:
    """Contents of an export.

    Parameters
    ----------
    path : Path
    n_labels : int
    can_be_repeated : bool
        Whether the labels are, in their order, those that the model was made of.
    """

    path: Path
    n_labels: int
    can_be_repeated: bool


def export_run(run: Path, target: Path) -> Exported:
    """Write labels, model, configurations, versions and a README with checksums into a new or empty folder.

    The folder appears when it is complete. The run is only read; it may be going on.

    Raises
    ------
    RunFolderError
        If `run` is no run or has no labels or model yet, or the target is not empty or cannot be written.
    """
    labels = _labels(run)
    with _writing(target):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise RunFolderError(f"{target}: is not empty; name a new folder")
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        unfinished = temporary_name(target.absolute())
        unfinished.mkdir()
        try:
            contents = _contents(run, labels, unfinished)
            _fill(unfinished, contents)
            os.replace(unfinished, target)
            flush(target.absolute().parent)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return Exported(target, len(contents.labels), contents.n_learned is not None)


def export_xyz(run: Path, target: Path) -> Exported:
    """Write the labels of a run alone, in the order in which they were learned, into a new extended XYZ file.

    Raises
    ------
    RunFolderError
        If `run` is no run or has no labels yet, or the file exists or cannot be written.
    """
    labels = _labels(run)
    texts = [exact_xyz(k.atoms, _info(k, k.walker, "model_version" in k.values)) for k in labels]
    with _writing(target):
        try:
            create_text(target, "".join(texts))
        except FileExistsError as error:
            raise RunFolderError(f"{target}: exists; name another file") from error
    return Exported(target, len(labels), False)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn what the system says of a target into RunFolderError."""
    try:
        yield
    except MlpotError:
        raise
    except OSError as error:
        raise RunFolderError(f"{target}: cannot be written: {error}; name another place") from error


def _labels(run: Path) -> list[RunLabel]:
    if not run.is_dir() or not RUN_FILES & {file.name for file in run.iterdir()}:
        raise RunFolderError(f"{run}: holds no run; name the folder of `mlpot learn` or of a LearningCalculator")
    labels = read_labels(run)
    if not labels:
        raise RunFolderError(f"{run}: holds no labels yet; there is nothing to export")
    return labels


def _contents(run: Path, labels: list[RunLabel], target: Path) -> Contents:
    """Collect the available files, copying the model first, since a running simulation replaces it."""
    if not (run / MODEL_FILE).exists():
        raise RunFolderError(f"{run}: holds no {MODEL_FILE} yet; wait for the first label to be learned")
    shutil.copyfile(run / MODEL_FILE, target / MODEL_FILE)
    model = inspect_model(target / MODEL_FILE)
    if (run / START_MODEL).exists():
        shutil.copyfile(run / START_MODEL, target / START_MODEL)
    data = read_structures(run / START_DATA) if (run / START_DATA).exists() else []
    for order in _orders(run, labels):
        for n in range(len(order), max(len(order) - BEHIND, 0) - 1, -1):
            if _is_made_of(model, data, order[:n]):
                chosen = {label.row.id for label in order[:n]}
                return Contents(run, order[:n] + [k for k in labels if k.row.id not in chosen], n, data, model)
    return Contents(run, labels, None, data, model)


def _orders(run: Path, labels: Sequence[RunLabel]) -> list[list[RunLabel]]:
    """Orders in which the labels may have been learned: as they say, as the state says, as they were paid."""
    by_key = {label.values["label_key"]: label for label in labels}
    state = (read_state(run) or {}).get("campaign", {}).get("learned", [])
    return [
        [label for label in labels if "model_version" in label.values],
        [by_key[key] for key in state if key in by_key],
        sorted(labels, key=lambda label: label.row.id),
    ]


def _is_made_of(model: SparseGP, data: Sequence[Atoms], labels: Sequence[RunLabel]) -> bool:
    structures = [labelled(atoms) for atoms in (*data, *(label.atoms for label in labels))]
    return provenance(structures)["data_sha256"] == model.provenance.get("data_sha256")


def _fill(target: Path, contents: Contents) -> None:
    """All files but the model; the README last, for it holds the sums of the others."""
    run, labels = contents.run, contents.labels
    infos = [
        _info(label, config_type, contents.is_learned(k))
        for k, (label, config_type) in enumerate(zip(labels, contents.config_types, strict=True))
    ]
    write_exact_xyz(target / LABELS, [label.atoms for label in labels], infos)
    if contents.data:
        shutil.copyfile(run / START_DATA, target / START_DATA)
    calculators = {str(label.values["calculator_path"]) for label in labels}
    versions = {"run": environments(run), "export": environment(calculators)}
    texts = {
        "fit.toml": fit_toml(contents.model, [START_DATA] if contents.data else [], LABELS, contents.config_types),
        "environment.json": json.dumps(versions, indent=1) + "\n",
        **{file.name.replace("config", "run"): file.read_text(encoding="utf-8") for file in configurations(run)},
    }
    if contents.n_learned is not None:
        texts["reproduce.py"] = REPRODUCE
    for name, text in texts.items():
        create_text(target / name, text)
    sums = {file.name: _sum(file) for file in sorted(target.iterdir())}
    failures = len(read_failures(run))
    create_text(target / "README.md", readme(contents, failures, sums))
    lines = [f"{_sum(file)}  {file.name}\n" for file in sorted(target.iterdir())]
    create_text(target / "SHA256SUMS", "".join(lines))


def _info(label: RunLabel, config_type: str, is_learned: bool) -> dict[str, Any]:
    """Entries in the comment line of a label, in addition to its results."""
    values = label.values
    kept = {
        "reason": label.reason, "walker": label.walker, "step": values.get("walker_step"),
        "label_seconds": values["label_seconds"], "force_error": values.get("force_error"),
        "expected_error": values.get("expected_error"), "settings": label.row.data.get("settings"),
    }  # fmt: skip
    return {
        "config_type": config_type,
        "key": str(values["label_key"]),
        "learned": is_learned,
        **{name: value for name, value in kept.items() if value is not None},
    }


def _sum(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
