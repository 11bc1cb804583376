"""Fits that are compared on structures none of them has seen: more and more data, or one preset after the other."""

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
from ..errors import DataError
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
"""One of so many groups of every config_type is held out, where there is no test set."""
FEWEST = 5
"""Structures, of which some can be held out."""
MANY = 10
"""Structures held out, from which on their errors say something."""
LAST = 3
"""Points of a learning curve that its slope is taken from."""
STEEP = -0.25
"""Slope beyond which it makes sense to say how much data half the error needs: at most 16 times as much."""
TIMED_ATOMS = 500
"""Atoms of test structures that predictions are timed with."""
PRESET_NAMES: tuple[PresetName, ...] = get_args(PresetName)


@dataclass(frozen=True)
class Study:
    """What is fitted to, and what is held against.

    Parameters
    ----------
    training : list of LabelledStructure
        In random order; the first of them have all elements.
    always : list of LabelledStructure
        Isolated atoms, which belong to every fit.
    test : list of LabelledStructure
        Structures that no fit sees.
    config : FitConfig
        Of the fits, with the energies of isolated atoms in the data.
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
        It was fitted to.
    n_sparse : int
        Of all terms.
    fit_seconds : float
        Wall time of the fit, without the check of labels that may follow it.
    us_per_atom, us_per_atom_with_uncertainty : float
        Processor time of energy, forces and stress.
    test, training : Errors
        On structures held out, and on those that it was fitted to.
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
        """For JSON: numbers of the fit, errors on structures held out, and "n_test" and "training" with the others."""
        own = {k: v for k, v in asdict(self).items() if k not in ("test", "training")}
        tested = {k: v for k, v in asdict(self.test).items() if not k.startswith("n_")}
        return {**own, **tested, "n_test": self.test.n_structures, "training": asdict(self.training)}


def study(
    frames: Sequence[Atoms], config: FitConfig | None = None, test: Sequence[Atoms] | None = None, seed: int = 0
) -> Study:
    """Labelled structures as a study takes them; without a test set every fifth group of frames that follow each other is held out.

    Raises
    ------
    DataError
        If there are too few structures to hold some out, beside what a fit raises.
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
            f"{len(bound)} structures are too few to hold some out; give at least {FEWEST}, or a test set ([data] test)"
        )
    kept, held = _divided(bound, rng)
    return Study(_shuffled(kept, rng), always, held, config)


def _divided(
    structures: Sequence[LabelledStructure], rng: np.random.Generator
) -> tuple[list[LabelledStructure], list[LabelledStructure]]:
    """Structures to fit to and structures to hold out: of the groups of every config_type one of `HELD_OUT`, one at least where there
    are two. No element is held out altogether.
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
        raise DataError("no structure can be held out: each has an element of its own; give a test set ([data] test)")
    return kept, held


def _shuffled(structures: Sequence[LabelledStructure], rng: np.random.Generator) -> list[LabelledStructure]:
    """In random order, but first those that bring an element that those before them had not."""
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
    """Fits to these parts of the training structures, each with those of the one before; `before` is told the name of each.

    A part has two structures at least, and all elements.
    """
    everything, n_all = _elements(task.training), len(task.training)
    fewest = next(n for n in range(1, n_all + 1) if _elements(task.training[:n]) == everything)
    for n in sorted({min(max(round(part * n_all), fewest, 2), n_all) for part in parts}):
        before(f"{n / n_all:.0%}, {n} structures")
        yield _row(f"{n / n_all:.0%}", task.training[:n], task, task.config)


def compare_presets(
    task: Study, presets: Sequence[PresetName] = PRESET_NAMES, before: Callable[[str], None] = lambda name: None
) -> Iterator[StudyRow]:
    """Fits with these presets to all training structures, and one with the terms of the configuration if it has any."""
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
    """Processor time of predictions of some of these structures, the best of three rounds."""
    n_before = np.cumsum([0, *(s.n_atoms for s in structures)])[:-1]
    timed = [s.atoms for s, n in zip(structures, n_before, strict=True) if n < TIMED_ATOMS]
    rounds = []
    for _ in range(4):  # in the first one the model is compiled
        started = time.process_time()
        for atoms in timed:
            model.predict(atoms, uncertainty)
        rounds.append(time.process_time() - started)
    return 1e6 * min(rounds[1:]) / sum(map(len, timed))


def slope(rows: Sequence[StudyRow], kind: str = "force_rmse_ev_per_ang") -> float | None:
    """d log(error on structures held out) / d log(structures), over the last points; None with fewer than two."""
    points = [(row.n_structures, getattr(row.test, kind)) for row in rows[-LAST:] if getattr(row.test, kind)]
    if len(points) < 2:
        return None
    n, error = np.log(np.array(points, float)).T
    return float(np.polyfit(n, error, 1)[0])


def few_words(task: Study) -> list[str]:
    """Whether what is held out says little."""
    if len(task.test) >= MANY:
        return []
    n = len(task.test)
    return [f"only {n} structure{'s are' if n > 1 else ' is'} held out: errors are rough; give more data, or [data] test"]


def curve_words(rows: Sequence[StudyRow]) -> list[str]:
    """What a learning curve says, for people."""
    lines = []
    for name, kind in (("forces", "force_rmse_ev_per_ang"), ("energies", "energy_rmse_mev_per_atom")):
        found = slope(rows, kind)
        if found is None:
            continue
        factor = 2.0**found
        text = f"{name}: twice the data would multiply the RMS error by about {factor:.2f}"
        if found < STEEP:
            text += f"; half the error needs about {2 ** (-1 / found):.3g} times the data"
        lines.append(f"{text} (as over the last {min(len(rows), LAST)} points)")
    return lines


def preset_words(rows: Sequence[StudyRow]) -> list[str]:
    """What each fit costs and gains against the one before it, for people."""
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
                f"and {fit:.1f} times that of the fit"
            )
    return lines
