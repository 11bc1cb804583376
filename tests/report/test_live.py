"""The live view: a table that fits a terminal, plain lines elsewhere."""

import io
import re
from dataclasses import replace

from rich.console import Console

from mlpot.learning.log_format import Step
from mlpot.report.live import LiveView


def step(number, walker, reason="certain", n_queued=2):
    labelled = reason == "uncertain"
    return Step(
        step=number, n_steps=1_000_000, time_fs=float(number), temperature_K=1234.5, energy_eV=-123456.789,
        max_energy_std_eV=0.01, threshold=0.15, labelled=labelled, model_version=40, n_labels=42, seconds=0.01,
        expected_error_eV_per_A=0.123, force_error_eV_per_A=0.02 if labelled else None, novelty=0.5, reason=reason,
        walker=walker, n_queued=n_queued,
    )  # fmt: skip


def shown(tmp_path, steps, terminal):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100 if terminal else 250, highlight=False)
    with LiveView(console, tmp_path / "run.log") as view:
        for one in steps:
            view.show(one)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())


STEPS = [
    step(number, f"hot-walker-{k}", "soft" if k == 3 else "uncertain" if k == 5 and not number else "certain")
    for number in (0, 500_000)
    for k in range(16)
]


def test_sixteen_walkers_in_a_terminal(tmp_path):
    lines = shown(tmp_path, STEPS, terminal=True).splitlines()
    assert max(map(len, lines)) <= 100
    last = lines[-24:]
    assert any("42 labels, 2 under way" in line for line in last)
    rows = {line.split()[0]: line.split() for line in last if "hot-walker" in line}
    assert set(rows) == {f"hot-walker-{k}" for k in range(16)}
    assert rows["hot-walker-0"][1:6] == ["500000", "1234", "-123456.79", "0.123", "0.150"]
    assert rows["hot-walker-3"][-2:] == ["soft", "500000"]
    assert rows["hot-walker-5"][-2:] == ["uncertain", "0"]
    assert rows["hot-walker-0"][-1] == "-"


def test_plain_lines(tmp_path):
    text = shown(tmp_path, STEPS, terminal=False)
    assert text == (tmp_path / "run.log").read_text()
    assert "hot-walker-3: step      0/1000000" in text and "labels   42 (+2 under way)" in text
    assert "uncertain: labelled, force error was 0.020 eV/A" in text


def test_a_relaxation_has_no_temperature(tmp_path):
    relaxed = replace(step(3, "slab"), temperature_K=None, time_fs=None, max_force_eV_per_A=0.0123)
    assert "force 0.012 eV/A" in shown(tmp_path, [relaxed], terminal=False)
    assert "slab" in shown(tmp_path, [relaxed], terminal=True)


def test_days_are_left(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("mlpot.report.live.time.monotonic", lambda: now[0])
    text = io.StringIO()
    with LiveView(Console(file=text, width=250), tmp_path / "run.log") as view:
        view.show(step(0, "w"))
        now[0] = 1000.0
        view.show(step(2000, "w", "uncertain"))
    assert "left 138:36:40" in text.getvalue()  # 998000 steps at 2 a second
