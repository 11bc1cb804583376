"""The live view of a learning run: one line that renews itself in a terminal, plain lines in a file."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..learning.runner import Step

PLAIN_SECONDS = 10.0
"""Between two plain lines; labelled steps always get one."""


class LiveView:
    """Shows steps as they come.

    Parameters
    ----------
    console : rich.console.Console
        A terminal gets a live table; anything else gets the plain lines.
    file : Path
        Plain lines are appended here in any case.
    """

    def __init__(self, console: Console, file: Path):
        self._console, self._file = console, open(file, "a")
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._first: tuple[float, int] | None = None
        self._last_line = 0.0
        self.handler = logging.StreamHandler(self._file)

    def __enter__(self) -> LiveView:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception) -> None:
        if self._live:
            self._live.stop()
        self.handler.close()
        logging.getLogger("mlpot").removeHandler(self.handler)
        self._file.close()

    def show(self, step: Step) -> None:
        """Take note of a step."""
        now = time.monotonic()
        self._first = self._first or (now, step.step)
        if self._live:
            self._live.update(self._table(step, now))
        if step.labelled or now - self._last_line > PLAIN_SECONDS or step.step == step.n_steps:
            self._last_line = now
            self._write(self._line(step, now))

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()
        if not self._live:
            self._console.print(line, markup=False)

    def _rate(self, step: Step, now: float) -> tuple[float, str]:
        """Steps per second since this process began, and the time that is left at that pace."""
        began, first = self._first
        rate = (step.step - first) / (now - began) if now > began else 0.0
        left = (step.n_steps - step.step) / rate if rate else 0.0
        return rate, time.strftime("%H:%M:%S", time.gmtime(left)) if rate else "-"

    def _line(self, step: Step, now: float) -> str:
        rate, left = self._rate(step, now)
        error = "" if step.force_error is None else f", force error was {step.force_error:.3f} eV/A"
        return (
            f"step {step.step:6d}/{step.n_steps}  {step.temperature_K:7.1f} K  {step.energy_eV:14.4f} eV  "
            f"uncertainty {_milli(step.max_energy_std_eV)} of {_milli(step.threshold)} meV  labels {step.n_labels:4d}  "
            f"{rate:6.1f} steps/s  left {left}" + (f"  labelled{error}" if step.labelled else "")
        )

    def _table(self, step: Step, now: float) -> Table:
        rate, left = self._rate(step, now)
        table = Table("step", "temperature", "energy", "uncertainty", "threshold", "labels", "steps/s", "left")
        table.add_row(
            f"{step.step}/{step.n_steps}",
            f"{step.temperature_K:.1f} K",
            f"{step.energy_eV:.3f} eV",
            f"{_milli(step.max_energy_std_eV)} meV",
            f"{_milli(step.threshold)} meV",
            str(step.n_labels),
            f"{rate:.1f}",
            left,
        )
        return table


def _milli(value: float | None) -> str:
    return "-" if value is None else f"{1e3 * value:.2f}"
