"""What fits cost: memory and time over environments beside gap_fit, growth beside a fit from scratch, reloads, workers.

    python benchmarks/fits.py scaling NbMoTaW_train.xyz [--gap-fit 1000 3000]
    python benchmarks/fits.py single Si_train.xyz --cutoff 5.4
    python benchmarks/fits.py growth Si_train.xyz --silicon --counts 20 50 100 200
    python benchmarks/fits.py growth NbMoTaW_train.xyz --portions --counts 20 200 1000
    python benchmarks/fits.py workers Si_train.xyz
    python benchmarks/fits.py rate Si_train.xyz

One thread unless OMP_NUM_THREADS says otherwise; each fit is a process of its own, so that its memory is its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from ase.io import read, write
from scipy.linalg import blas

import mlpot
from mlpot.bench import median_seconds
from mlpot.bench_peers import gap_fit_program
from mlpot.fitting.batch import fit_terms
from mlpot.fitting.design_matrix import Design
from mlpot.fitting.incremental import Fit
from mlpot.fitting.posterior import NormalEquations
from mlpot.models.evaluate import evaluate
from mlpot.neighbours import find_pairs
from mlpot.processes import worker_pool
from mlpot.structures import all_labelled
from mlpot.threads import single_blas_thread

TWO_BODY = {"type": "pair", "cutoff": 5.0, "n_sparse": 10}
MANY_BODY = {"type": "soap", "n_max": 6, "l_max": 4, "cutoff": 5.0, "n_sparse": 100, "zeta": 4, "atom_sigma": 0.5}
SILICON = [
    {"type": "pair", "cutoff": 5.4, "n_sparse": 20, "length_scale": 0.5},
    {
        "type": "soap",
        "n_max": 8,
        "l_max": 8,
        "cutoff": 5.4,
        "cutoff_width": 0.5,
        "atom_sigma": 0.5,
        "zeta": 4,
        "n_sparse": 1000,
    },
]


def shuffled(file, n_atoms):
    """Random structures of so many environments together, always the same ones first."""
    frames = read(file, ":")
    order = np.random.default_rng(0).permutation(len(frames))
    sizes = np.cumsum([len(frames[k]) for k in order])
    return [frames[k] for k in order[: np.searchsorted(sizes, n_atoms) + 1]]


def used():
    """CPU seconds and gigabytes of this process at its largest."""
    return {
        "cpu_s": round(time.process_time(), 1),
        "gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def in_process(*arguments):
    """The JSON that a part of this file prints in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def fit_part(file, n_atoms, check):
    """One fit of so many environments; stages in CPU seconds."""
    frames = shuffled(file, n_atoms)
    stages = {}

    def progress(stage, done, total):
        name = "sparse points" if " " in stage and stage.split()[0] in chemical_symbols else stage
        stages[name] = time.process_time()

    before = used()
    started = time.process_time()
    config = mlpot.FitConfig(terms=[TWO_BODY, MANY_BODY], check_labels=check)
    model = mlpot.fit(frames, config, progress)
    spent = {name: round(b - a, 1) for (_, a), (name, b) in pairwise([("", started), *stages.items()])}
    return {
        "environments": sum(map(len, frames)), "structures": len(frames), "points": model.n_sparse,
        "cpu_s": round(time.process_time() - started, 1), "stages": spent, "gb_data": before["gb"], "gb": used()["gb"],
    }  # fmt: skip


def gap_fit_part(file, n_atoms):
    """gap_fit on the same structures with the same SOAPs, and without pair terms: it refuses pairs that never occur."""
    frames = shuffled(file, n_atoms)
    species = sorted({int(z) for atoms in frames for z in atoms.numbers})
    names = " ".join(map(str, species))
    soap = [
        f"soap l_max=4 n_max=6 cutoff=5.0 cutoff_transition_width=0.5 atom_sigma=0.5 zeta=4 n_sparse=100 delta=1.0 "
        f"covariance_type=dot_product sparse_method=random n_species={len(species)} species_Z={{{{{names}}}}} Z={z} add_species=F"
        for z in species
    ]
    energies = ":".join(f"{chemical_symbols[z]}:-10.0" for z in species)
    with tempfile.TemporaryDirectory() as folder:
        for atoms in frames:
            results = atoms.calc.results
            atoms.info["dft_energy"], atoms.arrays["dft_force"] = results["energy"], results["forces"]
            atoms.calc = None
        write(f"{folder}/train.xyz", frames, format="extxyz")
        command = [
            gap_fit_program(), f"at_file={folder}/train.xyz", f"gap={{{' : '.join(soap)}}}", f"e0={{{energies}}}",
            "default_sigma={0.002 0.05 0.02 0.0}", "energy_parameter_name=dft_energy", "force_parameter_name=dft_force",
            "virial_parameter_name=none", "do_copy_at_file=F", "sparse_separate_file=F", f"gp_file={folder}/gp.xml",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if done.returncode:
            return {"failed": done.stdout[-300:] + done.stderr[-300:]}
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    n = sum(map(len, frames))
    return {
        "environments": n,
        "cpu_s": round(children.ru_utime + children.ru_stime, 1),
        "gb": round(children.ru_maxrss / 1e6, 2),
    }


def scaling(args):
    """Memory and time over environments, and gap_fit's where asked for."""
    for n in (1000, 3000, 10_000, 30_000, 108_464):
        print("mlpot  ", in_process("fit-part", args.file, n), flush=True)
    print("mlpot, labels checked", in_process("fit-part", args.file, 108_464, "--check"), flush=True)
    for n in args.gap_fit:
        print("gap_fit", in_process("gap-part", args.file, n), flush=True)


def growth(args):
    """Updates of one structure and 5 points, in random order; the same from scratch; what a restart costs.

    Between the counts that are measured structures join one by one, or in one portion with --portions.
    """
    frames = read(args.file, ":")
    test = all_labelled(read(args.file.replace("train", "test"), ":"))
    rng = np.random.default_rng(1)
    frames = [frames[k] for k in rng.permutation(len(frames))][: args.counts[-1]]
    terms = SILICON if args.silicon else [TWO_BODY, {**MANY_BODY, "n_sparse": 250}]
    chosen = mlpot.fit(frames, mlpot.FitConfig(terms=terms, check_labels=False))
    fit = Fit(mlpot.FitConfig(terms=terms), chosen.species)
    places = [
        (z, k) for z, f in zip(chosen.species, chosen.terms[1].sparse_features, strict=True) for k in range(len(f))
    ]
    points = dict(zip(chosen.species, chosen.terms[1].sparse_features, strict=True))
    places = [places[k] for k in rng.permutation(len(places))]
    share = len(places) / len(frames)
    for begin, end in pairwise([0, *args.counts]):
        steps = [begin, end - 1, end] if args.portions else range(begin, end + 1)
        for a, b in pairwise(steps):
            some = places[int(share * a) : int(share * b)]
            new = {(1, z): points[z][[k for other, k in some if other == z]] for z in {z for z, _ in some}}
            _, spent = timed(fit.update, frames[a:b], new)
        again, scratch = timed(
            fit_terms, fit.structures, fit.species, fit.model.terms, fit.model.baseline, fit.config, fit.levels.noises
        )
        row = {"structures": end, "points": fit.model.n_sparse, "new_points": len(some), "atoms": len(frames[end - 1])}
        costs = {"update_cpu_s": round(spent, 3), "scratch_cpu_s": round(scratch, 2)}
        print({**row, **costs, **compared(fit.model, again, test)}, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        _, saving = timed(fit.save, Path(folder, "fit.h5"))
        size = Path(folder, "fit.h5").stat().st_size / 1e9
        _, loading = timed(Fit.load, Path(folder, "fit.h5"))
    _, reweighing = timed(lambda: fit.reweigh(force_noise=0.06))
    print({"save_cpu_s": saving, "gb_on_disk": size, "reload_cpu_s": loading, "reweigh_cpu_s": reweighing, **used()})


def compared(first, second, structures):
    """Largest difference of energies (eV/atom) and forces (eV/A) between two models."""
    energy = force = 0.0
    for structure in structures:
        a, b = first.predict(structure.atoms), second.predict(structure.atoms)
        energy = max(energy, abs(a.energy - b.energy) / structure.n_atoms)
        force = max(force, float(np.abs(a.forces - b.forces).max()))
    return {"max_energy_difference": energy, "max_force_difference": force}


def timed(function, *arguments):
    """Result and CPU seconds."""
    started = time.process_time()
    result = function(*arguments)
    return result, time.process_time() - started


def workers(args):
    """Wall-clock seconds of the whole fit with 1 and 2 worker processes, and whether the results are equal."""
    frames, weights = read(args.file, ":"), []
    for count in (1, 2, 1, 2):
        started = time.perf_counter()
        with worker_pool(count) as pool:
            weights.append(mlpot.fit(frames, mlpot.FitConfig(terms=SILICON), executor=pool).weights)
        print({"workers": count, "wall_s": round(time.perf_counter() - started, 1)}, flush=True)
    print({"equal": all(np.array_equal(weights[0], other) for other in weights)})


def single(args):
    """A fit given nothing but data and a cutoff, and tuned: errors on the test file, CPU seconds, memory."""
    test = all_labelled(read(args.file.replace("train", "test"), ":"))
    frames = read(args.file, ":")
    for tune in (False, True):
        config = mlpot.FitConfig(cutoff=args.cutoff, tune=tune, check_labels=False)
        model, seconds = timed(mlpot.fit, frames, config)
        errors = evaluate(model, test).overall
        row = {"tuned": tune, "cpu_s": round(seconds, 1), "e_mae": errors.energy_mae_mev_per_atom}
        noises = model.noises.by_label()
        print({**row, "f_mae": errors.force_mae_ev_per_ang, "noises": noises}, flush=True)


def rate(args):
    """Floating-point operations per second of the design matrix and of its normal equations, beside DGEMM's in the same minute."""
    frames = read(args.file, ":")
    model = mlpot.fit(frames, mlpot.FitConfig(terms=SILICON, check_labels=False))
    structures = all_labelled(frames)[::11]
    design = Design(model.terms, model.baseline, model.species)
    (own,) = design.unit_terms[1]._rows
    all_pairs = [find_pairs(s.atoms, model.cutoff) for s in structures]
    n_atoms, n_pairs = sum(p.n_atoms for p in all_pairs), sum(p.n_pairs for p in all_pairs)
    flop = 2 * own.core.n_features * len(model.terms[1].sparse_features[0]) * (n_atoms + 3 * n_pairs)
    square = np.asfortranarray(np.random.default_rng(0).normal(size=(1000, 1000)))
    equations = NormalEquations.empty(design.n_sparse)
    rows, labels = np.random.default_rng(1).normal(size=(1024, design.n_sparse)), np.zeros(1024)
    with single_blas_thread():
        soap, all_rows, absorbing, dgemm = median_seconds([
            lambda: [soap_rows(design.unit_terms[1], p) for p in all_pairs],
            lambda: [design.rows(s) for s in structures],
            lambda: equations.absorb(design.prior.whitened(rows), labels),
            lambda: blas.dgemm(1.0, square, square),
        ])  # fmt: skip
    speed = 2e-9 * 1000**3 / dgemm
    print({"features": own.core.n_features, "neighbours": round(n_pairs / n_atoms, 1), "dgemm_gflops": round(speed, 1)})
    for name, seconds, work in (("soap rows", soap, flop), ("all rows", all_rows, flop)):
        rate = 1e-9 * work / seconds
        print(
            {
                name: {
                    "us_per_atom": round(1e6 * seconds / n_atoms),
                    "gflops": round(rate, 1),
                    "of_dgemm": round(rate / speed, 2),
                }
            }
        )
    rate = 2e-9 * rows.shape[0] * rows.shape[1] ** 2 / absorbing  # whitening and Z'Z, both triangular
    print(
        {
            "whitening, normal equations": {
                "us_per_row": round(1e6 * absorbing / len(rows), 1),
                "gflops": round(rate, 1),
                "of_dgemm": round(rate / speed, 2),
            }
        }
    )


def soap_rows(term, pairs):
    """Rows of a many-body term for energy and forces."""
    energy, forces = np.zeros(term.n_sparse), np.zeros((3 * pairs.n_atoms, term.n_sparse))
    term.add_rows(pairs, energy, forces, None)


def main():
    """Read the command line."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, action in (
        ("scaling", scaling),
        ("growth", growth),
        ("workers", workers),
        ("single", single),
        ("rate", rate),
    ):
        command = commands.add_parser(name)
        command.add_argument("file")
        command.set_defaults(action=action)
        if name == "scaling":
            command.add_argument("--gap-fit", nargs="*", type=int, default=[])
        if name == "single":
            command.add_argument("--cutoff", type=float)
        if name == "growth":
            command.add_argument("--silicon", action="store_true", help="terms of inputs/fit_si.toml")
            command.add_argument("--portions", action="store_true")
            command.add_argument("--counts", nargs="+", type=int, default=[20, 50, 100, 200])
    for name, part in (("fit-part", fit_part), ("gap-part", gap_fit_part)):
        command = commands.add_parser(name)
        command.add_argument("file")
        command.add_argument("n_atoms", type=int)
        if part is fit_part:
            command.add_argument("--check", action="store_true")
        command.set_defaults(
            action=lambda a, part=part: print(json.dumps(part(*[v for k, v in vars(a).items() if k != "action"])))
        )
    args = parser.parse_args()
    args.action(args)


if __name__ == "__main__":
    main()
