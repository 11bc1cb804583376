"""Errors of fits whose cutoff functions begin to fall at different distances: what the presets' `TAPER_START` rests on.

    python benchmarks/presets.py ../shared/data [--n-sparse 300]

Each line: test errors of the balanced preset with zeta, force noise and the beginning of the taper as said; "end" is a taper of 1 A.
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


@dataclass(frozen=True)
class Variant:
    """Of the preset; `start` in units of the longest bond, None for a taper of 1 A."""

    zeta: float = 2
    force_noise: float = 0.02
    start: float | None = None


VARIANTS = (Variant(4, 0.05), Variant(), Variant(start=1.0), Variant(start=0.5), Variant(start=0.0))


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


def main() -> None:
    """Fit all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--n-sparse", type=int, default=300)
    arguments = parser.parse_args()
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
