"""The data of a search: structures for trials, groups that are left out together, and structures that no trial sees."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ..data.overlaps import check_structures
from ..errors import ConfigError, DataError
from ..fitting.data_check import copies, fitting
from ..fitting.label_check import groups_of
from ..fitting.task import provenance
from ..neighbours import find_pairs
from ..settings.fit import FitConfig
from ..settings.tune import TuneSettings
from ..structures import LabelledStructure, all_labelled, is_isolated_atom

log = logging.getLogger(__name__)
Group = list[LabelledStructure]
HELD_OUT = 5
"""Without a test set one group in this number is held out of the search."""
FEWEST_GROUPS = 4
SHORT_RUN = 8
BY_CHANCE = 2.0
"""Correlation of neighbours, times the square root of their number, from which on a run of structures is a trajectory."""
N_FOLDS, MOST_FOLDS, MANY_ATOMS = 5, 30, 2000
"""Parts, of whole groups, for cross-validation with stored covariances: more than 5 if their number times the atoms is below 2000."""


@dataclass(frozen=True)
class Material:
    """Structures of a search.

    Parameters
    ----------
    groups : list of lists of LabelledStructure
        Training structures; the groups that are left out as a whole.
    always : list of LabelledStructure
        Isolated atoms, which are part of every fit.
    test : list of LabelledStructure
        Structures that no trial sees.
    config : FitConfig
        As given, with the energies of isolated atoms in the data.
    """

    groups: list[Group]
    always: list[LabelledStructure]
    test: list[LabelledStructure]
    config: FitConfig

    @classmethod
    def of(
        cls, frames: Sequence[Atoms], config: FitConfig, test: Sequence[Atoms] | None, settings: TuneSettings
    ) -> Material:
        """Check and divide frames; without a test set, one group in five is held out.

        Raises
        ------
        DataError
            If there are too few groups, or labels of every kind that can be compared are missing; also all errors of a fit.
        ConfigError
            If no structure has the key that names groups.
        """
        structures = all_labelled(frames)
        config = fitting(config, structures, sorted({int(z) for s in structures for z in s.atoms.numbers}))
        always = [s for s in structures if is_isolated_atom(s.atoms)]
        bound = [s for s in structures if not is_isolated_atom(s.atoms)]
        if not any(s.energy is not None or s.forces is not None for s in bound):
            raise DataError("no structure has an energy or forces, so settings cannot be compared; name their keys in [data]")
        groups = grouped(bound, settings.groups)
        if test is not None:
            held = all_labelled(test, "test")
            check_structures(held)
            if said := copies(held, bound):
                log.warning("%s: errors on the test set are too small", said)
        else:
            groups, held = held_out(groups, np.random.default_rng(settings.seed))
        if len(groups) < FEWEST_GROUPS:
            raise DataError(
                f'{len(groups)} group{"s are" if len(groups) != 1 else " is"} left to compare settings (tune.groups = '
                f'"{settings.groups}"); provide at least {FEWEST_GROUPS}, or set groups = "structure"'
            )
        return cls(groups, always, held, config)

    @property
    def training(self) -> list[LabelledStructure]:
        """All structures of a final fit, isolated atoms first."""
        return [*self.always, *(s for group in self.groups for s in group)]

    @property
    def species(self) -> tuple[int, ...]:
        """Sorted atomic numbers of the training structures."""
        return tuple(sorted({int(z) for s in self.training for z in s.atoms.numbers}))

    @property
    def labels(self) -> set[str]:
        """Kinds of labels of the training structures: "energy", "forces", "virial"."""
        return {label for group in self.groups for s in group for label in s.rows_by_label}

    def sample(self, n_environments: int, seed: int) -> list[Group]:
        """Groups with about this number of atoms: of every config_type, with all elements, at least `FEWEST_GROUPS`."""
        rng = np.random.default_rng([seed, 2])
        order = spread(self.groups, rng)
        chosen, n, seen = list[int](), 0, set[int]()
        for k in order:
            own = {int(z) for s in self.groups[k] for z in s.atoms.numbers}
            size = sum(s.n_atoms for s in self.groups[k])
            if n + size <= n_environments or len(chosen) < FEWEST_GROUPS or not own <= seen:
                chosen.append(k)
                n, seen = n + size, seen | own
        return [self.groups[k] for k in sorted(chosen)]

    def folds(self, seed: int) -> list[Group]:
        """Whole groups in `N_FOLDS` parts, or more for small data, every config_type in as many as it can; `always` is in none."""
        n_atoms = sum(s.n_atoms for group in self.groups for s in group)
        most = min(max(N_FOLDS, MANY_ATOMS // n_atoms), MOST_FOLDS)
        parts: list[Group] = [[] for _ in range(min(most, len(self.groups)))]
        for n, k in enumerate(spread(self.groups, np.random.default_rng([seed, 3]))):
            parts[n % len(parts)].extend(self.groups[k])
        return parts

    def fingerprint(self) -> str:
        """Hash of the training and test structures."""
        parts = [provenance(s)["data_sha256"] for s in (self.training, self.test)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def bonds(self) -> tuple[float, float]:
        """Shortest distance of two atoms, and the typical distance of nearest neighbours (its median over atoms), A."""
        reach, nearest = 3.0, np.empty(0)
        structures = [s for group in self.groups for s in group]
        some = structures[:: max(len(structures) // 200, 1)]
        while not len(nearest) and reach < 50.0:  # stretched molecules
            found = []
            for s in some:
                pairs = find_pairs(s.atoms, reach)
                own = np.full(s.n_atoms, np.inf)
                np.minimum.at(own, pairs.i, pairs.distances)
                found.append(own[np.isfinite(own)])
            nearest, reach = np.concatenate(found), 1.5 * reach
        if not len(nearest):
            raise DataError("no two atoms are closer than 50 A in any structure, so there is nothing to learn")
        return float(nearest.min()), float(np.median(nearest))


def grouped(structures: Sequence[LabelledStructure], rule: str) -> list[Group]:
    """Groups of structures by the rule `tune.groups`; ConfigError if it names a key that no structure has."""
    if rule == "auto":
        return [group for run in runs(structures) for group in (groups_of(run) if is_trajectory(run) else [[s] for s in run])]
    if rule == "structure":
        return [[s] for s in structures]
    found: dict[str, Group] = {}
    n_named = 0
    for k, s in enumerate(structures):
        own = s.config_type if rule == "config_type" else s.atoms.info.get(rule)
        n_named += own is not None
        found.setdefault(f"no {rule} {k}" if own is None else str(own), []).append(s)
    if structures and not n_named:
        keys = sorted({key for s in structures for key in s.atoms.info})
        raise ConfigError(
            f'tune.groups = "{rule}": no structure has this key in its info (there are {keys}); use one of these, "auto", '
            '"config_type" or "structure"'
        )
    return list(found.values())


def runs(structures: Sequence[LabelledStructure]) -> list[Group]:
    """Consecutive structures with the same atoms and config_type."""
    found: list[Group] = []
    for s in structures:
        last = found[-1][-1] if found else None
        if last and s.config_type == last.config_type and np.array_equal(s.atoms.numbers, last.atoms.numbers):
            found[-1].append(s)
        else:
            found.append([s])
    return found


def is_trajectory(run: Sequence[LabelledStructure]) -> bool:
    """Whether consecutive structures are alike: the mean squared forces (energies, without forces) of neighbours in the list are
    correlated, beyond what chance explains; short runs count as trajectories."""
    if len(run) < SHORT_RUN:
        return len(run) > 1
    if all(s.forces is not None for s in run):
        sizes = np.log([np.mean(np.square(s.forces)) + 1e-12 for s in run if s.forces is not None])
    else:
        sizes = np.array([(s.energy or 0.0) / s.n_atoms for s in run])
    left = sizes - sizes.mean()
    return bool(left[1:] @ left[:-1] * np.sqrt(len(run)) > BY_CHANCE * (left @ left))


def spread(groups: Sequence[Group], rng: np.random.Generator) -> list[int]:
    """Indices of groups in random order, config_types taking turns."""
    families: dict[str, list[int]] = {}
    for k in rng.permutation(len(groups)).tolist():
        families.setdefault(groups[k][0].config_type, []).append(k)
    turns = [(n / len(own), name, k) for name, own in sorted(families.items()) for n, k in enumerate(own)]
    return [k for _, _, k in sorted(turns)]


def held_out(groups: Sequence[Group], rng: np.random.Generator) -> tuple[list[Group], list[LabelledStructure]]:
    """Divide groups into those for training and held-out structures; no element is held out completely."""
    kept, held = [], list[LabelledStructure]()
    wanted = set(spread(groups, rng)[:: HELD_OUT][: len(groups) // HELD_OUT])
    rest = {int(z) for k, g in enumerate(groups) if k not in wanted for s in g for z in s.atoms.numbers}
    for k, group in enumerate(groups):
        if k in wanted and {int(z) for s in group for z in s.atoms.numbers} <= rest:
            held += group
        else:
            kept.append(group)
    if not held:
        raise DataError(
            f"{len(groups)} groups of structures are too few to hold one out; provide more, or a test set ([data] test)"
        )
    return kept, held
