"""mlpot learn with engine = "lammps": the same labels, files and restarts as with ASE, whatever the input does."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import ase.io
import numpy as np
import pytest
from conftest import FAULTY, faulty_parameters, lennard_jones
from lammps_runs import in_frame, write_data
from learning_runs import TERMS, crystal

from mlpot import load_model
from mlpot.config import learning_run, read_config
from mlpot.errors import ConfigError, LammpsError
from mlpot.keys.toml_text import toml_value
from mlpot.lammps.script import Command, Script
from mlpot.settings.files import LearnFile

INPUT = """
units metal
read_data {folder}/data
pair_style mlpot
pair_coeff * * model.mlpot Si   # the file is replaced
velocity all create 300 7
fix n all nvt &
    temp 300 600 0.1
timestep 0.002
thermo 10
dump d all custom 10 {folder}/own.dump id x y z
run {steps}
unfix n
fix n all nve
run 20
"""


@pytest.fixture(autouse=True)
def own_cache(plugin, monkeypatch):
    """What the wheel would find by itself."""
    monkeypatch.setattr("mlpot.lammps.process.plugin_of_wheel", lambda: plugin)
    monkeypatch.setenv("MLPOT_CACHE", str(plugin.parent))


def prepared(folder, steps=60, text=INPUT, repeat=(1, 1, 1), cluster=None, **dynamics):
    """The configuration of a run in a folder, and its input."""
    atoms = in_frame(crystal().repeat(repeat))
    write_data(atoms, [1] * len(atoms), folder / "data", [28.0855])
    (folder / "in.lammps").write_text(text.format(folder=folder, steps=steps))
    sections = {
        "dynamics": {"engine": "lammps", "input": str(folder / "in.lammps"), "leg": 20, "look_every": 5, **dynamics},
        "model": {"terms": TERMS}, "output": {"folder": str(folder / "run"), "checkpoint_s": 0.0, "interval": 20},
        "labeller": {"calculator": FAULTY, "parameters": faulty_parameters(folder / "calls"), "cluster": cluster},
        "learning": {"target": 0.02, "check_interval": "off", "min_interval": 10},
    }  # fmt: skip
    lines = []
    for name, keys in sections.items():
        lines += [f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in keys.items() if value is not None)]
    (folder / "learn.toml").write_text("\n".join(lines) + "\n")
    return folder / "learn.toml"


def learned(file, resume=False):
    """The run of a configuration, carried out: its status and its steps."""
    seen = []
    with learning_run(read_config(file, LearnFile), resume) as run:
        run.observer = seen.append
        return run.run(), seen


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_simulation_that_learns(tmp_path, ranks):
    status, steps = learned(prepared(tmp_path, ranks=ranks))
    assert status == "finished" and steps[-1].step == 80 and steps[0].reason == "no model"
    assert 1 < steps[-1].n_labels < 12
    labels = ase.io.read(tmp_path / "run" / "labels.db", ":")
    assert len(labels) == steps[-1].n_labels
    model, last = load_model(tmp_path / "run" / "model.h5"), ase.io.read(tmp_path / "run" / "trajectory.xyz")
    last.calc = lennard_jones()
    assert np.sqrt(np.mean((model.predict(last).forces - last.get_forces()) ** 2)) < 0.05
    assert json.loads((tmp_path / "run" / "state.json").read_text())["status"] == "finished"
    assert steps[0].temperature_K == pytest.approx(300 * 31 / 32, rel=1e-3)  # LAMMPS does not count the centre of mass
    assert steps[-1].time_fs == pytest.approx(160)
    assert sorted(set(timesteps(tmp_path / "own.dump"))) == list(range(0, 81, 10))


def timesteps(dump):
    lines = dump.read_text().splitlines()
    return [int(after) for line, after in pairwise(lines) if "TIMESTEP" in line]


def broken_off(file, after):
    """A run that an exception ends after this many steps; the number of labels that it has paid for."""

    def observe(step):
        if step.step > after:
            raise InterruptedError

    with pytest.raises(InterruptedError), learning_run(read_config(file, LearnFile), False) as run:
        run.observer = observe
        run.run()
    return len(ase.io.read(file.parent / "run" / "labels.db", ":"))


def test_it_is_resumed_in_its_second_run(tmp_path):
    """With the fix of that run alone, at the step of the checkpoint, with the velocities of LAMMPS."""
    file = prepared(tmp_path, steps=20)
    paid = broken_off(file, 20)
    status, steps = learned(file, resume=True)
    assert status == "finished" and steps[0].step >= 20 and steps[-1].step == 40
    assert steps[-1].n_labels >= paid and steps[0].temperature_K > 50
    restarts = list((tmp_path / "run").glob("*.restart"))
    assert 1 <= len(restarts) <= 2
    moved = ase.io.read(tmp_path / "run" / "trajectory.xyz", ":")
    assert [frame.info["step"] for frame in moved] == sorted(frame.info["step"] for frame in moved)


@pytest.mark.slow
def test_it_goes_on_after_kill_9(tmp_path, plugin):
    """Positions, velocities, thermostat, the user's dump and the labels are those of the last checkpoint."""
    file = prepared(tmp_path, steps=400)
    command = [sys.executable, "-m", "mlpot", "learn", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "run" / "log.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not log.exists() or log.read_text().count("\n") < 8):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    paid = len(ase.io.read(tmp_path / "run" / "labels.db", ":"))
    assert paid
    (tmp_path / "in.lammps").write_text(INPUT.format(folder=tmp_path, steps=100))
    status, steps = learned(file, resume=True)
    assert status == "finished" and steps[0].step > 0
    labels = ase.io.read(tmp_path / "run" / "labels.db", ":")
    assert len(labels) >= paid and steps[-1].n_labels == len(labels)


def test_labels_of_blocks(tmp_path):
    """256 atoms, labels of a quarter to an eighth of them: the model is as good for the whole."""
    file = prepared(tmp_path, steps=40, repeat=(2, 2, 2), cluster=6.0)
    status, steps = learned(file)
    labels = ase.io.read(tmp_path / "run" / "labels.db", ":")
    assert status == "finished" and len(labels) == steps[-1].n_labels > 1
    assert {len(atoms) for atoms in labels} <= set(range(20, 130))
    model, last = load_model(tmp_path / "run" / "model.h5"), ase.io.read(tmp_path / "run" / "trajectory.xyz")
    last.calc = lennard_jones()
    assert len(last) == 256
    assert np.sqrt(np.mean((model.predict(last).forces - last.get_forces()) ** 2)) < 0.1


@pytest.mark.parametrize(("old", "new", "match"), [
    ("run 20", "jump SELF", r"in.lammps:\d+: jump: cannot be followed"),
    ("units metal", "units real", "units real: write 'units metal'"),
    ("model.mlpot Si", "model.mlpot Silicon", "Silicon: give the element of each atom type by its symbol"),
    ("pair_style mlpot", "pair_style hybrid/overlay mlpot zbl 1 2", "no other style"), ("run", "print", "neither run nor minimize"),
    ("run 20", "run 20 every 5 'print x'", "run ... every: cannot be followed"),
    ("thermo 10", "include nowhere.in", "nowhere.in: cannot be read"),
])  # fmt: skip
def test_inputs_that_are_refused(tmp_path, old, new, match):
    file = prepared(tmp_path, text=INPUT.replace(old, new))
    with pytest.raises(ConfigError, match=match), learning_run(read_config(file, LearnFile), False):
        pass
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("more", "match"), [
    ({"temperature_K": 301.0}, "temperature_K has no effect with engine = \"lammps\""), ({"engine": "ase"}, "structure: missing"),
    ({"input": None}, "input: missing"),
])  # fmt: skip
def test_keys_that_are_refused(tmp_path, more, match):
    with pytest.raises(ConfigError, match=match):
        read_config(prepared(tmp_path, **more), LearnFile)


def test_an_error_of_lammps_is_quoted(tmp_path):
    file = prepared(tmp_path, text=INPUT.replace("thermo 10", "thermos 10"))
    with pytest.raises(LammpsError, match="LAMMPS stopped: ERROR: Unknown command: thermos 10"):
        learned(file)


def test_commands_after_a_restart():
    text = [
        "units metal", "read_data d", "group g type 1", "fix a all nve", "dump d all atom 1 f", "run 5", "velocity all zero linear",
        "run 9",
    ]  # fmt: skip
    script = Script(tuple(Command(line, "") for line in text), ("Si",))
    after = ["units metal", "read_restart r", "fix a all nve", "dump d all atom 1 f", "dump_modify d append yes"]
    assert script.before(7, "r") == after and script.before(7, None) == text[:7]
    assert (script.next_run(0), script.next_run(6), script.next_run(8)) == (5, 7, None)
