"""What each term of the accurate preset is worth, by structures that the fit did not see: what the choice of its terms rests on.

    python benchmarks/left_out.py ../shared/data [--sets Si Mo acac] [--every 1]

Each line: the preset, or the preset without one of its terms; mean absolute errors of every training structure when it is left
out of the fit, and the energies by family. No test file is read.
"""

import argparse
from pathlib import Path

import numpy as np
from pareto import FILES

import mlpot
from mlpot.settings.presets import resolve
from mlpot.structures import read_structures


def variants(config):
    """Name and configuration of the preset, whole and without each of its densities."""
    yield "whole", config
    for k, term in enumerate(config.terms):
        if term.type == "soap":
            name = f"without ({term.n_max},{term.l_max}) of order {term.order}, {term.cutoff:g} A"
            yield name, config.model_copy(update={"terms": config.terms[:k] + config.terms[k + 1 :]})


def table_line(families):
    """Errors of all structures, then the energies of each family."""
    found = families.values()
    energy = np.average([e.energy_mae_mev_per_atom for e in found], weights=[e.n_structures for e in found])
    forces = np.average([e.force_mae_ev_per_ang for e in found], weights=[e.n_atoms for e in found])
    own = ", ".join(f"{name} {e.energy_mae_mev_per_atom:.2f}" for name, e in families.items())
    return f"{energy:.2f} meV/atom {forces:.4f} eV/A; {own}"


def main():
    """Fit all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=FILES, default=["Si", "Mo", "acac"])
    parser.add_argument("--every", type=int, default=1, help="take each n-th structure")
    arguments = parser.parse_args()
    for data in arguments.sets:
        train = read_structures(arguments.data / FILES[data][0])[:: arguments.every]
        species = sorted({int(z) for atoms in train for z in np.unique(atoms.numbers)})
        for name, config in variants(resolve(mlpot.FitConfig(preset="accurate"), species)):
            families = mlpot.fit(train, config).report.left_out
            print(f"{data:5s} {name:42s} {table_line(families)}", flush=True)


if __name__ == "__main__":
    main()
