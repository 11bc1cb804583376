"""Maps of structures and environments: duplicates, outliers, and what a model covers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy.spatial import cKDTree

from .. import __version__
from ..descriptors.density import unseen_among
from ..errors import ConfigError
from ..models.sparse_gp import SparseGP
from ..neighbours import find_pairs
from ..structures import DEFAULT_CONFIG_TYPE, energy_of, name_of
from .embedding import Embedding, embed, normalised
from .sources import FeatureSource

FORMAT, VERSION = "mlpot-map", 1
NOVEL = 1.5
"""Novelty above which an environment is unlike all that the model knows."""
SAME = 1e-6
"""Structures whose mean features differ by less, in units of their length, are copies of each other, turned or reordered perhaps."""
MOST_OUTLIERS = 20
Show = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Atlas:
    """Maps of structures and, for every element, of environments.

    Parameters
    ----------
    frames : list of ase.Atoms
    structures : Embedding
    environments : dict
        By atomic number: structure and atom (n, 2) of every environment, and their embedding.
    duplicates : list of (int, int)
        A structure and an earlier one that is the same.
    per_atom, per_structure : dict
        Values (n_atoms in all), (n_structures,) to colour by; NaN where there is none.
    """

    frames: list[Atoms]
    structures: Embedding
    environments: dict[int, tuple[np.ndarray, Embedding]]
    duplicates: list[tuple[int, int]]
    per_atom: dict[str, np.ndarray] = field(default_factory=dict)
    per_structure: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def offsets(self) -> np.ndarray:
        """Atoms of structure s are offsets[s]:offsets[s + 1] among all."""
        return np.cumsum([0, *map(len, self.frames)])

    def outliers(self) -> list[dict[str, Any]]:
        """The most remote environments of every element, the farthest first, at most `MOST_OUTLIERS`; one of each structure."""
        found = []
        for number, (where, own) in self.environments.items():
            usual = max(float(np.median(own.remoteness)), 1e-12)
            seen: set[int] = set()
            for k in np.argsort(-own.remoteness)[: 20 * MOST_OUTLIERS]:
                structure, atom = where[k].tolist()
                if structure not in seen and own.remoteness[k] > 3 * usual and len(seen) < MOST_OUTLIERS:
                    seen.add(structure)
                    row = {"structure": structure, "atom": atom, "element": chemical_symbols[number]}
                    found.append(
                        row
                        | {"name": _name(self.frames, structure), "times_the_usual": float(own.remoteness[k] / usual)}
                    )
        return sorted(found, key=lambda row: -row["times_the_usual"])[:MOST_OUTLIERS]

    def coverage(self) -> list[dict[str, Any]]:
        """Part of the environments of every element that the model does not know; empty without a model."""
        if "novelty" not in self.per_atom:
            return []
        rows = []
        for number, (where, _) in self.environments.items():
            novelty = self.per_atom["novelty"][self.offsets[where[:, 0]] + where[:, 1]]
            known = novelty[np.isfinite(novelty)]
            rows.append(
                {
                    "element": chemical_symbols[number],
                    "environments": len(novelty),
                    "novel": int(np.sum(known > NOVEL)) + int(np.sum(~np.isfinite(novelty))),
                    "largest_novelty": float(known.max()) if len(known) else None,
                }
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """For JSON, see docs/map.md."""
        return {
            "format": FORMAT, "version": VERSION, "mlpot": __version__,
            "structures": {
                "name": [_name(self.frames, k) for k in range(len(self.frames))],
                "config_type": [str(a.info.get("config_type", DEFAULT_CONFIG_TYPE)) for a in self.frames],
                **_places(self.structures), **{k: _plain(v) for k, v in self.per_structure.items()},
            },
            "environments": {
                chemical_symbols[z]: {
                    "structure": where[:, 0].tolist(), "atom": where[:, 1].tolist(), **_places(own),
                    **{k: _plain(v[self.offsets[where[:, 0]] + where[:, 1]]) for k, v in self.per_atom.items()},
                }
                for z, (where, own) in self.environments.items()
            },
            "duplicates": [list(pair) for pair in self.duplicates], "outliers": self.outliers(), "coverage": self.coverage(),
        }  # fmt: skip


def _places(own: Embedding) -> dict[str, Any]:
    return {
        "x": _plain(own.places[:, 0]), "y": _plain(own.places[:, 1]), "explained": _plain(own.explained),
        "remoteness": _plain(own.remoteness), "sketch": own.sketch.tolist(),
    }  # fmt: skip


def _plain(values: np.ndarray) -> list[float | None]:
    """Numbers with six digits for JSON; null where there is none."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, float)]


def _name(frames: Sequence[Atoms], k: int) -> str:
    return name_of(frames[k], f"structure {k}")


def make_atlas(
    source: FeatureSource,
    frames: Sequence[Atoms],
    model: SparseGP | None = None,
    seed: int = 0,
    show: Show = lambda *a: None,
) -> Atlas:
    """Maps of structures and environments by the features of a source.

    Parameters
    ----------
    source : FeatureSource
    frames : sequence of ase.Atoms
        With labels or without.
    model : SparseGP or None
        For novelty and errors; structures with elements it does not know have none.

    Raises
    ------
    ConfigError
        For fewer than two structures and two environments.
    UnknownSpeciesError, StructureError
        For structures that cannot be used.
    """
    frames = list(frames)
    if sum(map(len, frames)) < 3:
        raise ConfigError("a map needs at least three atoms; give more structures")
    features = []
    for done, atoms in enumerate(frames):
        features.append(source.descriptor.compute(find_pairs(atoms, source.cutoff)))
        show("features", done + 1, len(frames))
    every = np.concatenate(features)
    numbers = np.concatenate([atoms.numbers for atoms in frames])
    owner = np.repeat(np.arange(len(frames)), [len(a) for a in frames])
    index = np.concatenate([np.arange(len(a)) for a in frames])
    environments = {}
    for z in sorted(set(numbers.tolist())):
        own = np.flatnonzero(numbers == z)
        environments[z] = (np.stack([owner[own], index[own]], axis=1), embed(normalised(every[own]), owner[own], seed))
    means = np.array([f.mean(axis=0) for f in features])
    structures = embed(normalised(means), np.arange(len(frames)), seed)
    per_atom, per_structure = _labels(frames)
    if model is not None:
        _judge(model, frames, per_atom, per_structure, show)
    return Atlas(frames, structures, environments, _duplicates(frames, means), per_atom, per_structure)


def _duplicates(frames: Sequence[Atoms], means: np.ndarray) -> list[tuple[int, int]]:
    """Structures of equal composition and cell volume whose mean features are the same, each with the first of its kind."""
    size = max(float(np.linalg.norm(means, axis=1).max()), 1e-300)
    short = np.ascontiguousarray((means - means.mean(axis=0)) @ _directions(means))
    first: dict[int, int] = {}
    for a, b in sorted(cKDTree(short).query_pairs(SAME * size)):
        same = np.array_equal(np.sort(frames[a].numbers), np.sort(frames[b].numbers))
        if same and np.linalg.norm(means[a] - means[b]) < SAME * size and b not in first:
            first[b] = first.get(a, a)
    return sorted(first.items())


def _directions(means: np.ndarray) -> np.ndarray:
    """A few principal directions (n_features, n)."""
    return np.linalg.svd(means[:2000] - means.mean(axis=0), full_matrices=False)[2][:6].T


def _labels(frames: Sequence[Atoms]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Energies per atom and sizes of forces, where there are any."""
    results = [a.calc.results if a.calc is not None else {} for a in frames]
    energies = np.array([energy_of(r) for r in results], float) / [len(a) for a in frames]  # None becomes NaN
    forces = [
        np.linalg.norm(r["forces"], axis=1) if "forces" in r else np.full(len(a), np.nan)
        for r, a in zip(results, frames, strict=True)
    ]
    per_structure = {"energy_per_atom_eV": energies} if np.isfinite(energies).any() else {}
    force = np.concatenate(forces)
    return ({"force_eV_per_A": force} if np.isfinite(force).any() else {}), per_structure


def _judge(model: SparseGP, frames: Sequence[Atoms], per_atom: dict, per_structure: dict, show: Show) -> None:
    """Add novelty and, where there are labels, errors of a model."""
    novelty, errors, energy = [], [], []
    for done, atoms in enumerate(frames):
        nothing = np.full(len(atoms), np.nan)
        extrapolates = model.config is not None and model.config.extrapolate
        if unseen_among(atoms.numbers, model.species) and not extrapolates:
            found, error, off = nothing, nothing, np.nan
        else:
            p = model.predict(atoms, uncertainty=True)
            results = atoms.calc.results if atoms.calc is not None else {}
            found = nothing if p.novelty is None else p.novelty
            error = np.linalg.norm(p.forces - results["forces"], axis=1) if "forces" in results else nothing
            label = results.get("free_energy", results.get("energy", np.nan))
            off = abs(p.energy - label) / len(atoms)
        novelty.append(found)
        errors.append(error)
        energy.append(off)
        show("novelty and errors", done + 1, len(frames))
    for name, values, into in (
        ("novelty", np.concatenate(novelty), per_atom),
        ("force_error_eV_per_A", np.concatenate(errors), per_atom),
        ("energy_error_eV_per_atom", np.array(energy), per_structure),
    ):
        if name == "novelty" or np.isfinite(values).any():
            into[name] = values
    per_structure["largest_novelty"] = np.array([np.max(own) for own in novelty])
