"""How fast the kernel of mixed densities approaches that of full SOAP as the number of random sums grows.

    python benchmarks/mixing.py [--plot FILE] [--seeds 3]

Each line: the number of elements of the alloys; what is mixed, how the random sums meet, whether both densities have
the same; channels and features per degree with the most sums, and the features of full SOAP; the root-mean-square error
of the normalised kernel between two environments for each number of sums, and the power of that number with which it
falls. With mix "both", K sums make K features where they meet element-wise, K^2 where all of them meet: compare errors
at equal features. Those of symmetric element-wise mixing do not vanish: its kernel is another one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from ase.build import bulk
from matplotlib.figure import Figure

from mlpot.descriptors.density import Reduction, SoapDescriptor
from mlpot.descriptors.mixing import Coupling, Mix, Mixing, make_reduction
from mlpot.descriptors.radial_basis import GapRadialBasis
from mlpot.neighbours import find_pairs

BASIS = GapRadialBasis(n_max=8, l_max=6, cutoff=5.0, cutoff_width=1.0, atom_sigma=0.5)
DEGREES = [slice(degree**2, (degree + 1) ** 2) for degree in range(BASIS.l_max + 1)]
N_ELEMENTS = (1, 2, 4, 10, 40)
N_CHANNELS = (4, 8, 16, 32, 64, 128, 256)
MIXES: tuple[Mix, ...] = ("species", "radial", "both")
COUPLINGS: tuple[Coupling, ...] = ("element-wise", "full")
LATTICES = (("fcc", 4.0), ("bcc", 3.2), ("diamond", 5.6))
CENTRES_PER_ALLOY = 8
PAIRS_AT_ONCE = 2048
SMALLEST_DRAWN = 1e-3


@dataclass(frozen=True)
class Convergence:
    """Errors of one kind of mixing, one for each of `N_CHANNELS`, and how large it is with the last of them."""

    n_elements: int
    mix: Mix
    coupling: Coupling
    symmetric: bool
    largest: Reduction
    errors: np.ndarray

    @property
    def densities(self) -> str:
        return "symmetric" if self.symmetric else "independent"

    @property
    def exponent(self) -> float:
        """Of the power of the number of sums with which the error falls; 0 where there is nothing to mix."""
        if self.errors.max() < 1e-12:
            return 0.0
        return float(np.polyfit(np.log(N_CHANNELS), np.log(self.errors), 1)[0])


def environments(species: tuple[int, ...]) -> np.ndarray:
    """Expansion coefficients (n_species, n_max, n_centres, n_harmonics) in hot random alloys of three lattices."""
    rng = np.random.default_rng(0)
    found = []
    for lattice, constant in LATTICES:
        atoms = bulk("Cu", lattice, a=constant, cubic=True) * (3, 3, 3)
        atoms.numbers = rng.permutation(np.resize(species, len(atoms)))
        atoms.rattle(0.15, seed=1)
        c = SoapDescriptor(species, BASIS).expand(find_pairs(atoms, BASIS.cutoff))
        found.append(c[rng.choice(len(c), CENTRES_PER_ALLOY, replace=False)])
    coefficients = np.concatenate(found)
    return coefficients.reshape(len(coefficients), len(species), BASIS.n_max, -1).transpose(1, 2, 0, 3)


def full_kernel(coefficients: np.ndarray) -> np.ndarray:
    """Kernel of the whole power spectrum without the power spectrum.

    sum_ab p_i[ab, l] p_j[ab, l] = 1 / (2l + 1) sum_mm' (sum_a c_i[a, l, m] c_j[a, l, m'])^2
    """
    kernel = 0.0
    for degree, shell in enumerate(DEGREES):
        c = coefficients[..., shell]
        overlaps = np.tensordot(c, c, axes=([0, 1], [0, 1]))  # (n, m, n', m')
        kernel = kernel + (overlaps**2).sum(axis=(1, 3)) / (2 * degree + 1)
    return kernel


def reduced_kernel(reduction: Reduction, coefficients: np.ndarray) -> np.ndarray:
    """Kernel of a reduced power spectrum, a part of its pairs at a time."""
    channels = np.tensordot(reduction.weights, coefficients, axes=2)
    kernel = 0.0
    for degree, shell in enumerate(DEGREES):
        c = np.ascontiguousarray(channels[..., shell])
        for start in range(0, len(reduction.a), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            p = np.einsum("pim,pim->pi", c[reduction.a[part]], c[reduction.b[part]]) * reduction.scale[part, None]
            kernel = kernel + p.T @ p / (2 * degree + 1)
    return kernel


def similarities(kernel: np.ndarray) -> np.ndarray:
    """Normalised kernel of every two environments."""
    norms = np.sqrt(np.diag(kernel))
    return (kernel / norms / norms[:, None])[np.triu_indices(len(kernel), 1)]


def convergence(n_elements: int, n_seeds: int) -> Iterator[Convergence]:
    """Of all kinds of mixing in alloys of so many elements."""
    species = tuple(range(21, 21 + n_elements))
    coefficients = environments(species)
    exact = similarities(full_kernel(coefficients))
    for mix, coupling, symmetric in product(MIXES, COUPLINGS, (True, False)):
        errors = []
        for n_channels in N_CHANNELS:
            options = {"mix": mix, "coupling": coupling, "symmetric": symmetric, "n_channels": n_channels}
            reductions = [make_reduction(Mixing(**options, mix_seed=s), species, BASIS.n_max) for s in range(n_seeds)]
            found = np.array([similarities(reduced_kernel(reduction, coefficients)) for reduction in reductions])
            errors.append(np.sqrt(np.mean((found - exact) ** 2)))
        yield Convergence(n_elements, mix, coupling, symmetric, reductions[0], np.array(errors))


def plot(rows: list[Convergence], file: str) -> None:
    """Errors over the number of sums, a panel for each number of elements and thing mixed."""
    figure = Figure(figsize=(3 * len(N_ELEMENTS), 3 * len(MIXES)), layout="constrained")
    axes = figure.subplots(len(MIXES), len(N_ELEMENTS), sharex=True, sharey=True)
    for row in rows:
        panel = axes[MIXES.index(row.mix), N_ELEMENTS.index(row.n_elements)]
        style = {"color": f"C{COUPLINGS.index(row.coupling)}", "linestyle": "--" if row.symmetric else "-"}
        label = f"{row.coupling}, {row.densities}"
        panel.loglog(N_CHANNELS, np.maximum(row.errors, SMALLEST_DRAWN), marker=".", label=label, **style)
        panel.set_title(f"{row.mix}, {row.n_elements} element{'s' if row.n_elements > 1 else ''}", fontsize=10)
    for panel in axes[-1]:
        panel.set_xlabel("random sums K")
    for panel in axes[:, 0]:
        panel.set_ylabel("error of the kernel")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(file)


def main() -> None:
    """Print a line for each kind of mixing; plot them where a file is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", metavar="FILE", help="figure of all errors")
    parser.add_argument("--seeds", type=int, default=3, help="mixings to take the mean over")
    options = parser.parse_args()
    sums = "".join(f"{f'K={n}':>8}" for n in N_CHANNELS)
    print(f"elements mix     coupling     densities   channels features    full{sums}   power")
    rows = []
    for n_elements in N_ELEMENTS:
        whole = n_elements * BASIS.n_max
        for row in convergence(n_elements, options.seeds):
            rows.append(row)
            kind = f"{n_elements:8} {row.mix:8}{row.coupling:13}{row.densities:12}"
            sizes = f"{len(row.largest.weights):8}{len(row.largest.a):9}{whole * (whole + 1) // 2:8}"
            print(kind + sizes + "".join(f"{error:8.4f}" for error in row.errors) + f"{row.exponent:8.2f}", flush=True)
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
