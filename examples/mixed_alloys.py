"""Four elements in the channels of one and a half: kernels that converge, and models of NbMoTaW alloys.

    python examples/mixed_alloys.py ../shared/data [--every 10] [--n-sparse 400] [--plot convergence.png]

First the error of the reduced kernel between environments of the test structures, against full SOAP, over the number of
random sums K that all meet each other. Then models, fitted to every tenth training structure (`--every 1`: all, which
takes an hour), with sums in which elements are as similar as in the periodic table, and one in which they are independent:
test errors, features, and microseconds per atom for energy and forces of a 1024-atom quaternary crystal.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from ase.build import bulk

import mlpot
from mlpot.models.evaluate import evaluate
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import SoapTermSettings
from mlpot.structures import all_labelled, read_structures
from mlpot.terms.soap_settings import make_descriptor

SPECIES = (41, 42, 73, 74)
CUTOFF = {"cutoff": 5.0, "cutoff_width": 3.8}
SOAP = {"type": "soap", "n_max": 8, "l_max": 6, **CUTOFF, "zeta": 2}
MIXED = {"mix": "both", "symmetric": True}
PERIODIC = {**MIXED, "embedding": "periodic"}
CHANNELS = (4, 6, 8, 12, 16, 24, 32)
MODELS = {
    "full SOAP": {},
    "K = 22, half the features": {**PERIODIC, "n_channels": 22},
    "K = 12": {**PERIODIC, "n_channels": 12},
    "K = 8": {**PERIODIC, "n_channels": 8},
    "K = 12, random": {**MIXED, "n_channels": 12},
}
N_ENVIRONMENTS = 150
SEEDS = range(4)
TURNS = 3


def kernel(settings, structures):
    """Normalised kernel (n, n) between one environment of each structure."""
    descriptor = make_descriptor(SoapTermSettings(**settings), SPECIES)
    first = np.array([0], np.int32)
    features = [descriptor.compute(find_pairs(atoms, descriptor.cutoff), first)[0] for atoms in structures]
    return np.array(features) @ np.array(features).T


def convergence(structures):
    """Root-mean-square error of the kernel for each of `CHANNELS`, over several draws of the sums."""
    exact = kernel(SOAP, structures)

    def error(n_channels, seed):
        mixed = kernel({**SOAP, **MIXED, "n_channels": n_channels, "mix_seed": seed}, structures)
        return np.mean((mixed - exact) ** 2)

    return [float(np.sqrt(np.mean([error(k, seed) for seed in SEEDS]))) for k in CHANNELS]


def crystal():
    """1024 atoms of a bcc crystal with all four elements at random."""
    atoms = bulk("Mo", "bcc", a=3.24, cubic=True) * (8, 8, 8)
    atoms.numbers = np.random.default_rng(0).permutation(np.resize(SPECIES, len(atoms)))
    atoms.rattle(0.05, seed=0)
    return atoms


def model_row(settings, train, test, n_sparse):
    """Features, test errors and cost of a model."""
    terms = [{"type": "pair", **CUTOFF}, {**SOAP, **settings, "n_sparse": n_sparse}]
    model = mlpot.fit(train, mlpot.FitConfig(terms=terms, energy_noise=0.001, force_noise=0.02, check_labels=False))
    errors = evaluate(model, all_labelled(test)).overall
    compiled, atoms, least = model.compile(), crystal(), np.inf
    for _ in range(TURNS):
        start = time.process_time()
        compiled.predict(atoms)
        least = min(least, time.process_time() - start)
    n_features = model.terms[1].descriptor.n_features
    return n_features, errors.energy_mae_mev_per_atom, errors.force_mae_ev_per_ang, 1e6 * least / len(atoms)


def draw(errors, file):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="random sums K", ylabel="error of the kernel", xscale="log", yscale="log")
    axes.plot(CHANNELS, errors, "o-", label="NbMoTaW")
    axes.plot(CHANNELS, errors[0] * np.sqrt(CHANNELS[0] / np.array(CHANNELS)), ":", label=r"$K^{-1/2}$")
    axes.legend()
    figure.savefig(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=10, help="fit to every n-th training structure")
    parser.add_argument("--n-sparse", type=int, default=400, help="sparse points per element")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS), help="which to fit")
    parser.add_argument("--plot", help="file for the plot of the convergence")
    arguments = parser.parse_args()
    test = read_structures(arguments.data / "NbMoTaW_test.xyz")
    errors = convergence(test[:: max(len(test) // N_ENVIRONMENTS, 1)])
    for n_channels, error in zip(CHANNELS, errors, strict=True):
        print(f"K = {n_channels:3d}: {n_channels * (n_channels + 1) // 2:4d} pairs, kernel error {error:.4f}")
    print(f"exponent {np.polyfit(np.log(CHANNELS), np.log(errors), 1)[0]:.2f}", flush=True)
    if arguments.plot:
        draw(errors, arguments.plot)
    train = read_structures(arguments.data / "NbMoTaW_train.xyz")[:: arguments.every]
    for name in arguments.models:
        n_features, energy, forces, cost = model_row(MODELS[name], train, test, arguments.n_sparse)
        print(
            f"{name:26s} {n_features:5d} features {energy:6.2f} meV/atom {forces:.4f} eV/A {cost:7.1f} us/atom",
            flush=True,
        )


if __name__ == "__main__":
    main()
