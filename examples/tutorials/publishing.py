"""From data to a published model: split, learning curve, presets compared, tuning, report.

    python examples/tutorials/publishing.py [DATA.xyz] [-o FOLDER]

Every step is a command of `mlpot` that you may type instead. Without a file the copper-gold crystals of `alloy.py` stand in.
"""

import argparse
import subprocess
from pathlib import Path

from alloy import stand_in
from ase.io import read, write

CONFIG = """\
[data]
train = "{folder}/train.xyz"
test = "{folder}/test.xyz"

[model]
preset = "{preset}"

[fit]
check_labels = true
{tune}

[output]
model = "{folder}/{preset}.h5"
report = "{folder}/{preset}.html"
"""


def mlpot(*arguments):
    """Run a command of mlpot, shown before it starts."""
    print("$ mlpot", *arguments, flush=True)
    subprocess.run(["mlpot", *map(str, arguments)], check=True)


def main(folder, data=None, preset="fast", tune=False):
    """All steps; returns the files that a publication needs."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = stand_in(24, 0) if data is None else read(data, ":")
    # every fourth frame is kept for the test; of a trajectory, keep whole stretches instead, since neighbouring frames are alike
    write(folder / "test.xyz", frames[::4])
    write(folder / "train.xyz", [atoms for k, atoms in enumerate(frames) if k % 4])
    config = folder / "fit.toml"
    config.write_text(CONFIG.format(folder=folder, preset=preset, tune="tune = true" if tune else ""))
    mlpot("learning-curve", config, "--plot", folder / "learning_curve.png")
    mlpot("fit", config)
    model = folder / f"{preset}.h5"
    mlpot("evaluate", model, folder / "test.xyz", "--json", folder / "errors.json", "--plot", folder / "parity.png")
    mlpot("check", model)
    return [config, model, folder / "errors.json", folder / "learning_curve.png", folder / "parity.png", folder / f"{preset}.html"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?")
    parser.add_argument("-o", "--output", default="publishing")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--tune", action="store_true")
    arguments = parser.parse_args()
    main(Path(arguments.output), arguments.data, arguments.preset, arguments.tune)
