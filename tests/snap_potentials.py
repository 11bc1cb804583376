"""SNAP potentials with made-up coefficients, as files."""

import numpy as np
from ase.data import atomic_numbers

from mlpot.descriptors import Bispectrum


def coefficients_of(symbols, two_j_max, chem, rng):
    """Linear coefficients, the same for equal components: LAMMPS' forces are not the derivatives of its energies otherwise."""
    triples = Bispectrum(tuple(range(1, len(symbols) + 1)), 3.0, two_j_max, chem=chem).triples
    made = {}
    return [made.setdefault(tuple(sorted(triple)), rng.normal() * 0.01) for triple in triples]


def write_snap(folder, symbols, two_j_max=4, rcutfac=4.2, seed=0, **flags):
    """Write made.snapcoeff and made.snapparam; symbols in this order, flags as in LAMMPS."""
    rng = np.random.default_rng(seed)
    n = len(coefficients_of(symbols, two_j_max, bool(flags.get("chemflag")), rng))
    n_coefficients = 1 + n + (n * (n + 1) // 2 if flags.get("quadraticflag") else 0)
    lines = ["# made up", "", f"{len(symbols)} {n_coefficients}"]
    for k, symbol in enumerate(symbols):
        lines.append(f"{symbol} {0.5 - 0.04 * k} {1.0 - 0.2 * k}  # radius and weight")
        linear = [rng.normal(), *coefficients_of(symbols, two_j_max, bool(flags.get("chemflag")), rng)]
        quadratic = rng.normal(size=n_coefficients - n - 1) * 1e-5
        lines += [f" {value:.17g} # of {atomic_numbers[symbol]}" for value in (*linear, *quadratic)]
    keys = {"rcutfac": rcutfac, "twojmax": two_j_max, **flags}
    files = folder / "made.snapcoeff", folder / "made.snapparam"
    files[0].write_text("\n".join(lines) + "\n")
    files[1].write_text("# made up\n\n" + "".join(f"{key} {value}\n" for key, value in keys.items()))
    return files
