"""A campaign on Slurm: several walkers share labels, labels are batch jobs, and the run itself may be one.

    python examples/tutorials/campaign.py [FOLDER] [--slurm]

Writes `campaign.toml` and `job.sh`. Without `--slurm` the labels are calculated on this machine, with EMT, so that everything but the
queue can be tried before any core hour is spent; with it they are batch jobs. The picture is the history of the campaign.
"""

import argparse
import csv
from pathlib import Path

import matplotlib.pyplot as plt
from ase.build import bulk
from ase.io import write

from mlpot.config import learning_run, read_config
from mlpot.settings.files import LearnFile

CONFIG = """\
[structure]
file = "{folder}/start.xyz"

[dynamics]
timestep_fs = 2.0
steps = {steps}

[[walkers]]
name = "cold"
temperature_K = 300

[[walkers]]
name = "hot"
temperature_K = [300, 1200]
replicas = 2

[labeller]
calculator = "ase.calculators.emt.EMT"   # your code here
{executor}

[model]
preset = "fast"
cutoff = 4.5

[learning]
{deadline}
max_labels = 60

[output]
folder = "{folder}/run"
"""
SLURM = """\
executor = "slurm"
workers = 4
slurm = { queue = "normal", tasks = 16, launcher = "srun", memory = "32GB", walltime = "01:00:00" }"""
JOB = """\
#!/bin/bash
#SBATCH --time=24:00:00
mlpot learn {folder}/campaign.toml $([ -e {folder}/run/state.json ] && echo --resume)
[ $? = 75 ] && sbatch "$0"
"""


def main(folder, steps=150, slurm=False):
    """Write the files, run the campaign, draw its history; returns the number of labels."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "start.xyz", bulk("Cu", cubic=True).repeat((2, 1, 1)))
    executor, deadline = (SLURM, 'deadline = "auto"') if slurm else ('executor = "local"', "")
    (folder / "campaign.toml").write_text(CONFIG.format(folder=folder, steps=steps, executor=executor, deadline=deadline))
    (folder / "job.sh").write_text(JOB.format(folder=folder))
    with learning_run(read_config(folder / "campaign.toml", LearnFile), resume=False) as run:
        run.run()
        n_labels = run.campaign.learner.n_labels
    draw(folder / "run", folder / "campaign.png")
    return n_labels


def draw(run, file):
    """Expected errors of all walkers, with a dot for every label."""
    with open(run / "log.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["expected_error_eV_per_A"]]
    figure, axes = plt.subplots(figsize=(5, 2.6), layout="constrained")
    for name in dict.fromkeys(row["walker"] for row in rows):
        own = [(int(r["step"]), float(r["expected_error_eV_per_A"]), r["labelled"]) for r in rows if r["walker"] == name]
        steps, errors, _ = zip(*own, strict=True)
        (line,) = axes.semilogy(steps, errors, lw=0.8, label=name)
        asked = [(step, error) for step, error, is_labelled in own if is_labelled in ("1", "True", "true")]
        axes.plot([step for step, _ in asked], [error for _, error in asked], "o", ms=4, color=line.get_color())
    axes.set(xlabel="step", ylabel="expected error / (eV/Å)", ylim=(1e-3, None))
    axes.legend(fontsize=7)
    figure.savefig(file, dpi=80)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default="campaign")
    parser.add_argument("--slurm", action="store_true")
    arguments = parser.parse_args()
    print(main(Path(arguments.folder), slurm=arguments.slurm), "labels")
