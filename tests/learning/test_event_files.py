"""Event files for TensorBoard hold the numbers of log.csv, also after a run was broken off and resumed."""

import csv
import struct
import sys

import pytest
from ase.io import write
from learning_runs import LEARN, crystal, do_run, in_this_process, plan
from typer.testing import CliRunner

from mlpot.commands.main import app
from mlpot.learning.checkpoints import RunSettings
from mlpot.learning.event_files import SCALARS


@pytest.fixture
def messages():
    return pytest.importorskip("tensorboardX.proto.event_pb2", reason="tensorboardX is not installed")


def records(file):
    """The records of an event file: each with its length and a checksum before it, and a checksum behind."""
    content = file.read_bytes()
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        yield content[12 : 12 + size]
        content = content[16 + size :]


def as_tensorboard_shows(folder, messages):
    """Values by step and tag; a file that starts at a step drops what earlier files have from there on."""
    shown = {}
    for file in sorted(folder.iterdir()):
        for event in map(messages.Event.FromString, records(file)):
            if event.WhichOneof("what") == "session_log":
                shown = {step: values for step, values in shown.items() if step < event.step}
            elif event.WhichOneof("what") == "summary":
                assert event.step not in shown
                shown[event.step] = {value.tag: value.simple_value for value in event.summary.value}
    return shown


def test_the_numbers_of_the_log_also_of_a_resumed_run(tmp_path, messages):
    settings = RunSettings(checkpoint_s=1e6, tensorboard=True)  # checkpoints at labels only, so that steps are repeated
    with in_this_process():
        status, _ = do_run(tmp_path / "run", tmp_path / "calls", [plan(12), plan(12)], settings=settings, stop_after=15)
        assert status == "interrupted"
        do_run(tmp_path / "run", tmp_path / "calls", [plan(12), plan(12)], settings=settings, resume=True)
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines()))
    for walker in ("w0", "w1"):
        folder = tmp_path / "run" / "tensorboard" / walker
        shown = as_tensorboard_shows(folder, messages)
        assert len(list(folder.iterdir())) == 2 and sorted(shown) == list(range(13))
        for row in (row for row in rows if row["walker"] == walker):
            wanted = {name: float(row[name]) for name in SCALARS if row[name]}
            assert shown[int(row["step"])] == pytest.approx(wanted, rel=1e-6, abs=1e-30)


def test_a_run_without_the_key_writes_none(tmp_path):
    with in_this_process():
        do_run(tmp_path / "run", tmp_path / "calls", plan(1))
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_without_the_package_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    monkeypatch.chdir(tmp_path)
    write("start.xyz", crystal())
    (tmp_path / "learn.toml").write_text(LEARN + "tensorboard = true\n")
    result = CliRunner().invoke(app, ["learn", "learn.toml"])
    assert result.exit_code == 2 and not (tmp_path / "run").exists()
    assert 'output.tensorboard = true: tensorboardX cannot be imported' in result.output
    assert 'pip install "mlpot[tensorboard]"' in " ".join(result.output.split())
