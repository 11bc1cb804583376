"""Errors of fits whose cutoff functions begin to fall at different distances: what the presets' `TAPER_START` rests on.

    python benchmarks/presets.py ../shared/data [--n-sparse 300]
    python benchmarks/presets.py ../shared/data --terms [--sets Mo C_crystals] [--only three]

Each line: test errors of the balanced preset with zeta, force noise and the beginning of the taper as said; "end" is a taper of 1 A.
With `--terms`, of the preset with other pair terms, with invariants of three densities, and with a shorter reach of the density.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

import mlpot
from mlpot.descriptors.periodic import longest_bond
from mlpot.models.evaluate import evaluate
from mlpot.settings.presets import resolve
from mlpot.structures import all_labelled, read_structures
from mlpot.tuning.cost import microseconds_per_atom, timed_structures


@dataclass(frozen=True)
class Variant:
    """Of the preset; `start` in units of the longest bond, None for a taper of 1 A."""

    zeta: float = 2
    force_noise: float = 0.02
    start: float | None = None


VARIANTS = (Variant(4, 0.05), Variant(), Variant(start=1.0), Variant(start=0.5), Variant(start=0.0))


THREE = {"order": 3, "order_channels": 8, "order_l_max": 3, "order_weight": 0.5}
TERMS: dict[str, tuple[dict, dict, float]] = {
    "preset": ({}, {}, 1.0),
    "gaussian, 0.5 A": ({"length_scale": 0.5}, {}, 1.0),
    "matern, 0.5 A, 40 radii": ({"kernel": "matern", "length_scale": 0.5, "n_sparse": 40}, {}, 1.0),
    "matern, 1 A": ({"kernel": "matern", "length_scale": 1.0}, {}, 1.0),
    "matern, 1 A, 40 radii": ({"kernel": "matern", "length_scale": 1.0, "n_sparse": 40}, {}, 1.0),
    "three densities": ({}, THREE, 1.0),
    "0.75 of the cutoff": ({}, {}, 0.75),
    "three densities, 0.75 of the cutoff": ({}, THREE, 0.75),
}
"""Keys of the pair term and of the density that differ from the preset's, and the density's cutoff in units of the preset's."""


def smaller_sets(folder: Path) -> Iterator[tuple[str, list[Atoms], list[Atoms]]]:
    """Name, training and test structures of data that are fitted in seconds."""
    for name, end, every in (("Mo", "", 1), ("Si", "", 1), ("acac", "_300K", 5)):
        train, test = (read_structures(folder / f"{name}_{part}{end}.xyz") for part in ("train", "test"))
        yield name, train[::every], test
    rest = ("C_crystals", 120, 200), ("aC_train", 56, 14), ("Fe", 200, 200), ("small_molecules_1000", 400, 400)
    for name, n_train, n_test in rest:
        frames = read_structures(folder / f"{name}.xyz")
        order = np.random.default_rng(0).permutation(len(frames))
        yield name, [frames[k] for k in sorted(order[:n_train])], [frames[k] for k in order[n_train : n_train + n_test]]


def data_sets(folder: Path) -> Iterator[tuple[str, list[Atoms], list[Atoms]]]:
    """Name, training and test structures."""
    for name, end, every in (("Si", "", 1), ("Mo", "", 1), ("acac", "_300K", 2)):
        train, test = (read_structures(folder / f"{name}_{part}{end}.xyz") for part in ("train", "test"))
        yield name, train[::every], test
    molecules = read_structures(folder / "small_molecules_1000.xyz")
    yield "molecules", molecules[:600], molecules[600:]


def config(variant: Variant, species: tuple[int, ...], n_sparse: int) -> mlpot.FitConfig:
    """The preset with the variant's terms."""
    bond = longest_bond(species)
    terms = []
    for term in resolve(mlpot.FitConfig(), species).terms:
        width = 1.0 if variant.start is None else term.cutoff - variant.start * bond
        own = {"zeta": variant.zeta, "n_sparse": n_sparse} if term.type == "soap" else {}
        terms.append(term.model_copy(update={"cutoff_width": width, **own}))
    return mlpot.FitConfig(terms=tuple(terms), force_noise=variant.force_noise, check_labels=False)


def with_terms(pair: dict, density: dict, reach: float, species: tuple[int, ...], n_sparse: int) -> mlpot.FitConfig:
    """The preset with other terms; what is left of a cutoff function begins to fall where it did."""
    terms = []
    for term in resolve(mlpot.FitConfig(), species).terms:
        if term.type == "pair":
            terms.append(term.changed(**pair))
        else:
            cut = {"cutoff": reach * term.cutoff, "cutoff_width": term.cutoff_width - (1 - reach) * term.cutoff}
            terms.append(term.changed(n_sparse=n_sparse, **cut, **density))
    return mlpot.FitConfig(terms=tuple(terms), check_labels=False)


def compare_terms(arguments: argparse.Namespace) -> None:
    """Fit with all kinds of terms, print errors and costs."""
    for name, train, test in smaller_sets(arguments.data):
        if arguments.sets and name not in arguments.sets:
            continue
        species = tuple(sorted({int(z) for atoms in train for z in np.unique(atoms.numbers)}))
        for kind, changes in TERMS.items():
            if kind != "preset" and arguments.only and arguments.only not in kind:
                continue
            model = mlpot.fit(train, with_terms(*changes, species, arguments.n_sparse))
            errors = evaluate(model, all_labelled(test)).overall
            cost = microseconds_per_atom(model, timed_structures(all_labelled(train)))
            forces = "" if errors.force_mae_ev_per_ang is None else f", forces {errors.force_mae_ev_per_ang:.4f} eV/A"
            print(f"{name:12s} {kind:36s} {errors.energy_mae_mev_per_atom:.3f} meV/atom{forces}, {cost:.1f} us/atom", flush=True)


def main() -> None:
    """Fit all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--n-sparse", type=int, default=300)
    parser.add_argument("--terms", action="store_true")
    parser.add_argument("--only", help="kinds of terms with this in their names, beside the preset")
    parser.add_argument("--sets", nargs="*", default=[])
    arguments = parser.parse_args()
    if arguments.terms:
        return compare_terms(arguments)
    for name, train, test in data_sets(arguments.data):
        species = tuple(sorted({int(z) for atoms in train for z in np.unique(atoms.numbers)}))
        for variant in VARIANTS:
            model = mlpot.fit(train, config(variant, species, arguments.n_sparse))
            errors = evaluate(model, all_labelled(test)).overall
            forces = "" if errors.force_mae_ev_per_ang is None else f", forces {errors.force_mae_ev_per_ang:.4f} eV/A"
            start = "end" if variant.start is None else f"{variant.start:g} bonds"
            print(
                f"{name:10s} zeta {variant.zeta:g}, noise {variant.force_noise:g}, taper from {start:9s} "
                f"energies {errors.energy_mae_mev_per_atom:.2f} meV/atom{forces}",
                flush=True,
            )


if __name__ == "__main__":
    main()
