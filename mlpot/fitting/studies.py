"""Studies that compare fits on held-out structures: learning curves and comparisons of presets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, get_args

import numpy as np
from ase import Atoms

from ..data.overlaps import check_structures
from ..errors import DataError, counted
from ..models.evaluate import compare, errors
from ..models.report import Errors
from ..models.sparse_gp import SparseGP
from ..settings.fit import FitConfig, PresetName
from ..structures import LabelledStructure, all_labelled, is_isolated_atom
from .batch import fit_checked
from .data_check import copies, fitting
from .label_check import groups_of

log = logging.getLogger(__name__)
PARTS = (0.1, 0.2, 0.4, 0.7, 1.0)
HELD_OUT = 5
"""Without a test set, one of this number of groups of every config_type is held out."""
FEWEST = 5
"""Smallest number of structures for holding some out."""
MANY = 10
"""With fewer held-out structures their errors are only rough."""
LAST = 3
"""Number of final points of a learning curve that determine its slope."""
STEEP = -0.25
"""The data needed for half the error is only stated for steeper slopes: at most 16 times the present data."""
TIMED_ATOMS = 500
"""Number of atoms of test structures used for timing."""
PRESET_NAMES: tuple[PresetName, ...] = get_args(PresetName)


@dataclass(frozen=True)
class Study:
    """Training and test structures of a study, and the configuration of its fits.

    Parameters
    ----------
    training : list of LabelledStructure
        In random order, except that the first ones contain all elements.
    always : list of LabelledStructure
        Isolated atoms, which are part of every fit.
    test : list of LabelledStructure
        Structures held out of all fits.
    config : FitConfig
        Configuration of the fits, with the energies of isolated atoms in the data.
    """

    training: list[LabelledStructure]
    always: list[LabelledStructure]
    test: list[LabelledStructure]
    config: FitConfig


@dataclass(frozen=True)
class StudyRow:
    """One fit of a study.

    Parameters
    ----------
    name : str
    n_structures, n_atoms : int
        Size of the training data.
    n_sparse : int
        Number of sparse points of all terms.
    fit_seconds : float
        Wall time of the fit, without the check of labels that may follow.
    us_per_atom, us_per_atom_with_uncertainty : float
        CPU time of a prediction of energy, forces and stress, us/atom.
    test, training : Errors
        Errors on held-out structures and on the training structures.
    """

    name: str
    n_structures: int
    n_atoms: int
    n_sparse: int
    fit_seconds: float
    us_per_atom: float
    us_per_atom_with_uncertainty: float
    test: Errors
    training: Errors

    def to_dict(self) -> dict[str, Any]:
        """Dictionary for JSON: numbers of the fit and errors on held-out structures, with "n_test" and "training"."""
        own = {k: v for k, v in asdict(self).items() if k not in ("test", "training")}
        tested = {k: v for k, v in asdict(self.test).items() if not k.startswith("n_")}
        return {**own, **tested, "n_test": self.test.n_structures, "training": asdict(self.training)}


def study(
    frames: Sequence[Atoms], config: FitConfig | None = None, test: Sequence[Atoms] | None = None, seed: int = 0
) -> Study:
    """Prepare a study; without a test set, every fifth group of consecutive frames is held out.

    Raises
    ------
    DataError
        If there are too few structures to hold some out; also all errors of a fit.
    """
    structures = all_labelled(frames)
    species = sorted({int(z) for s in structures for z in s.atoms.numbers})
    config = fitting(config or FitConfig(), structures, species).model_copy(update={"check_labels": False})
    always = [s for s in structures if is_isolated_atom(s.atoms)]
    bound = [s for s in structures if not is_isolated_atom(s.atoms)]
    rng = np.random.default_rng(seed)
    if test is not None:
        held = all_labelled(test, "test")
        check_structures(held)
        if said := copies(held, bound):
            log.warning("%s: errors on the test set are too small", said)
        return Study(_shuffled(bound, rng), always, held, config)
    if len(bound) < FEWEST:
        raise DataError(
            f"{counted(len(bound), 'structure')}: too few to hold some out; provide at least {FEWEST}, or a test set ([data] test)"
        )
    kept, held = _divided(bound, rng)
    return Study(_shuffled(kept, rng), always, held, config)


def _divided(
    structures: Sequence[LabelledStructure], rng: np.random.Generator
) -> tuple[list[LabelledStructure], list[LabelledStructure]]:
    """Divide structures into training and held-out ones: one in `HELD_OUT` groups of every config_type, at least one of two.

    No element is held out completely.
    """
    groups = groups_of(structures)
    families: dict[str, list[int]] = {}
    for k in rng.permutation(len(groups)).tolist():
        families.setdefault(groups[k][0].config_type, []).append(k)
    wanted = {k for own in families.values() for k in own[: max(len(own) // HELD_OUT, min(len(own) - 1, 1))]}
    kept = [s for k, group in enumerate(groups) if k not in wanted for s in group]
    held = list[LabelledStructure]()
    for k in sorted(wanted or families[max(families)][:1]):
        (held if _elements(groups[k]) <= _elements(kept) else kept).extend(groups[k])
    if not held:
        raise DataError("no structure can be held out, since each has an element that no other has; provide a test set ([data] test)")
    return kept, held


def _shuffled(structures: Sequence[LabelledStructure], rng: np.random.Generator) -> list[LabelledStructure]:
    """Shuffle structures, and move those that introduce a new element to the front."""
    first, rest, seen = list[LabelledStructure](), list[LabelledStructure](), set[int]()
    for k in rng.permutation(len(structures)).tolist():
        own = _elements([structures[k]])
        (rest if own <= seen else first).append(structures[k])
        seen |= own
    return first + rest


def _elements(structures: Sequence[LabelledStructure]) -> set[int]:
    return {int(z) for s in structures for z in s.atoms.numbers}


def learning_curve(
    task: Study, parts: Sequence[float] = PARTS, before: Callable[[str], None] = lambda name: None
) -> Iterator[StudyRow]:
    """Yield fits to nested fractions of the training structures; `before` is called with the name of each fit.

    A fraction has at least two structures and contains all elements.
    """
    everything, n_all = _elements(task.training), len(task.training)
    fewest = next(n for n in range(1, n_all + 1) if _elements(task.training[:n]) == everything)
    for n in sorted({min(max(round(part * n_all), fewest, 2), n_all) for part in parts}):
        before(f"{n / n_all:.0%}, {counted(n, 'structure')}")
        yield _row(f"{n / n_all:.0%}", task.training[:n], task, task.config)


def compare_presets(
    task: Study, presets: Sequence[PresetName] = PRESET_NAMES, before: Callable[[str], None] = lambda name: None
) -> Iterator[StudyRow]:
    """Yield fits to all training structures with each preset, and with the terms of the configuration if it has any."""
    structures = task.training
    if task.config.terms:
        before("the terms given")
        yield _row("the terms given", structures, task, task.config)
    for preset in presets:
        before(preset)
        yield _row(preset, structures, task, task.config.model_copy(update={"preset": preset, "terms": ()}))


def _row(name: str, structures: list[LabelledStructure], task: Study, config: FitConfig) -> StudyRow:
    started = time.perf_counter()
    model = fit_checked([*task.always, *structures], config)
    seconds = time.perf_counter() - started
    return StudyRow(
        name=name,
        n_structures=len(structures),
        n_atoms=sum(s.n_atoms for s in structures),
        n_sparse=sum(term.n_sparse for term in model.terms),
        fit_seconds=seconds,
        us_per_atom=microseconds_per_atom(model, task.test, uncertainty=False),
        us_per_atom_with_uncertainty=microseconds_per_atom(model, task.test, uncertainty=True),
        test=errors([compare(model, s) for s in task.test]),
        training=errors([compare(model, s) for s in structures]),
    )


def microseconds_per_atom(model: SparseGP, structures: Sequence[LabelledStructure], uncertainty: bool) -> float:
    """CPU time of predictions per atom, us, for some of these structures: the best of three rounds."""
    n_before = np.cumsum([0, *(s.n_atoms for s in structures)])[:-1]
    timed = [s.atoms for s, n in zip(structures, n_before, strict=True) if n < TIMED_ATOMS]
    rounds = []
    for _ in range(4):  # the model is compiled in the first round
        started = time.process_time()
        for atoms in timed:
            model.predict(atoms, uncertainty)
        rounds.append(time.process_time() - started)
    return 1e6 * min(rounds[1:]) / sum(map(len, timed))


def slope(rows: Sequence[StudyRow], kind: str = "force_rmse_ev_per_ang") -> float | None:
    """d log(held-out error) / d log(structures) over the last points; None with fewer than two points."""
    points = [(row.n_structures, getattr(row.test, kind)) for row in rows[-LAST:] if getattr(row.test, kind)]
    if len(points) < 2:
        return None
    n, error = np.log(np.array(points, float)).T
    return float(np.polyfit(n, error, 1)[0])


def few_words(task: Study) -> list[str]:
    """Warning if there are few held-out structures; empty otherwise."""
    if len(task.test) >= MANY:
        return []
    n = len(task.test)
    return [f"only {n} structure{'s are' if n > 1 else ' is'} held out: errors are rough; provide more data, or [data] test"]


def curve_words(rows: Sequence[StudyRow]) -> list[str]:
    """Readable summary of a learning curve."""
    lines = []
    for name, kind in (("forces", "force_rmse_ev_per_ang"), ("energies", "energy_rmse_mev_per_atom")):
        found = slope(rows, kind)
        if found is None:
            continue
        factor = 2.0**found
        text = f"{name}: twice the data would multiply the RMS error by about {factor:.2f}"
        if found < STEEP:
            text += f"; half the error needs about {2 ** (-1 / found):.3g} times the data"
        lines.append(f"{text} (from the last {min(len(rows), LAST)} points)")
    return lines


def preset_words(rows: Sequence[StudyRow]) -> list[str]:
    """Readable summary of errors and costs of each fit relative to the previous one."""
    lines = []
    for last, row in pairwise(rows):
        before, after = last.test.force_rmse_ev_per_ang, row.test.force_rmse_ev_per_ang
        what = "force"
        if not before or after is None:
            before, after, what = last.test.energy_rmse_mev_per_atom, row.test.energy_rmse_mev_per_atom, "energy"
        if before and after is not None:
            step, fit = row.us_per_atom / last.us_per_atom, row.fit_seconds / last.fit_seconds
            lines.append(
                f"{row.name}: {after / before:.2f} times the {what} error of {last.name}, at {step:.1f} times the cost of a step "
                f"and {fit:.1f} times the cost of the fit"
            )
    return lines
