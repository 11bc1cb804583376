"""Cost of features and their pullback of mixed channels: against the number of elements, and beside peers.

    OMP_NUM_THREADS=1 python benchmarks/reduced_cost.py [--peers]

Processor time of one thread in microseconds per atom, the least of several turns; all kinds take turns, so that they meet
the same machine. bcc alloys of 250 atoms with elements at random, (n_max, l_max) = (8, 6), cutoff 5 A: 26 neighbours. Features
and pullback are had in one call, as from the peers and as a step of a simulation has them.
"""

import argparse
import time
from importlib.util import find_spec

import numpy as np
from ase.build import bulk

from mlpot.neighbours import find_pairs
from mlpot.settings.fit import SoapTermSettings
from mlpot.terms.soap_settings import make_descriptor

ALLOY = ("V", "Nb", "Mo", "Ta", "W")
FORTY = tuple(range(11, 51))
CUTOFF = 5.0
SOAP = {"n_max": 8, "l_max": 6, "cutoff": CUTOFF, "cutoff_width": 0.5, "atom_sigma": 0.5}
MIXED = {"mix": "both", "n_channels": 64, "coupling": "element-wise", "symmetric": True}
KINDS = {
    "K = 64, element-wise": MIXED,
    "K = 64, element-wise, two mixings": {**MIXED, "symmetric": False},
    "K = 16, element-wise": {**MIXED, "n_channels": 16},
    "K = 11, full coupling": {**MIXED, "n_channels": 11, "coupling": "full"},
    "K = 64 and order 3, 16 channels": {**MIXED, "order": 3, "order_channels": 16},
    "K = 64 and order 4, 16 channels": {**MIXED, "order": 4, "order_channels": 16},
    "full": {},
}
TURNS = 7


def alloy(elements, seed=0):
    """250 atoms of a bcc crystal, somewhat rattled."""
    atoms = bulk("Mo", "bcc", a=3.2, cubic=True) * (5, 5, 5)
    rng = np.random.default_rng(seed)
    atoms.set_atomic_numbers([0] * len(atoms))
    numbers = list(elements) * (len(atoms) // len(elements) + 1)
    atoms.numbers = rng.permutation(numbers[: len(atoms)])
    atoms.rattle(0.1, seed=seed)
    return atoms


def numbers_of(symbols):
    from ase.data import atomic_numbers

    return tuple(sorted(atomic_numbers[s] if isinstance(s, str) else s for s in symbols))


def steps(settings, elements):
    """A function that computes features and their pullback for an alloy, and the number of features."""
    species = numbers_of(elements)
    descriptor = make_descriptor(SoapTermSettings(**SOAP, **settings), species)
    pairs = find_pairs(alloy(species), CUTOFF)
    cotangent = np.random.default_rng(0).normal(size=(pairs.n_atoms, descriptor.n_features))
    return (lambda: descriptor.compute_and_vjp(pairs, cotangent)), descriptor.n_features


def quippy_steps(n_channels):
    """quippy's features with their gradients."""
    from quippy.descriptors import Descriptor

    atoms = alloy(numbers_of(ALLOY))
    species = " ".join(map(str, numbers_of(ALLOY)))
    mixing = f"Z_mix=T R_mix=T sym_mix=T coupling=F K={n_channels}" if n_channels else ""
    descriptor = Descriptor(
        f"soap cutoff={CUTOFF} cutoff_transition_width=0.5 atom_sigma=0.5 n_max=8 l_max=6 n_species=5 "
        f"species_Z={{{species}}} n_Z=5 Z={{{species}}} {mixing}"
    )
    return lambda: descriptor.calc(atoms, grad=True)


def featomic_steps():
    """featomic's power spectrum with its gradients."""
    from featomic import SoapPowerSpectrum

    calculator = SoapPowerSpectrum(
        cutoff={"radius": CUTOFF, "smoothing": {"type": "ShiftedCosine", "width": 0.5}},
        density={"type": "Gaussian", "width": 0.5},
        basis={"type": "TensorProduct", "max_angular": 6, "radial": {"type": "Gto", "max_radial": 7}},
    )
    atoms = alloy(numbers_of(ALLOY))
    return lambda: calculator.compute(atoms, gradients=["positions"])


def timed(functions, turns):
    """Least processor time of each function by name, in turns."""
    least = dict.fromkeys(functions, np.inf)
    for turn in range(turns + 1):
        for name, function in functions.items():
            start = time.process_time()
            function()
            if turn or turns == 1:
                least[name] = min(least[name], time.process_time() - start)
    return least


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", action="store_true", help="quippy and featomic beside it, where they are installed")
    peers = parser.parse_args().peers
    made = {f"{name}, 5 elements": steps(settings, ALLOY) for name, settings in KINDS.items()}
    made |= {f"{name}, 1 element": steps(settings, ["Mo"]) for name, settings in KINDS.items()}
    made |= {f"{next(iter(KINDS))}, {n} elements": steps(MIXED, FORTY[:n]) for n in (2, 10, 20, 40)}
    least = timed({name: function for name, (function, _) in made.items()}, TURNS)
    for name, (_, n_features) in made.items():
        print(f"{name:48s} {n_features:6d} features {1e6 * least[name] / 250:9.1f} us/atom")
    if peers:
        others = {}
        if find_spec("quippy"):
            others |= {f"quippy, K = {k}" if k else "quippy, full": quippy_steps(k) for k in (16, 64, 0)}
        if find_spec("featomic"):
            others["featomic, full"] = featomic_steps()
        for name, seconds in timed(others, 1).items():
            print(f"{name:48s} {'':15s} {1e6 * seconds / 250:9.1f} us/atom")


if __name__ == "__main__":
    main()
