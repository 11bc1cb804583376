"""The live view of a learning run: one line that renews itself in a terminal, plain lines in a file."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..learning.record import Step

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
        self._first: dict[str, tuple[float, int]] = {}
        self._last: dict[str, Step] = {}
        self._last_line: dict[str, float] = {}
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
        self._first.setdefault(step.walker, (now, step.step))
        self._last[step.walker] = step
        if self._live:
            self._live.update(self._table(now))
        quiet = now - self._last_line.get(step.walker, 0.0)
        if step.labelled or quiet > PLAIN_SECONDS or step.step == step.n_steps:
            self._last_line[step.walker] = now
            self._write(self._line(step, now))

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()
        if not self._live:
            self._console.print(line, markup=False)

    def _rate(self, step: Step, now: float) -> tuple[float, str]:
        """Steps per second since this process began, and the time that is left at that pace."""
        began, first = self._first[step.walker]
        rate = (step.step - first) / (now - began) if now > began else 0.0
        left = (step.n_steps - step.step) / rate if rate else 0.0
        return rate, time.strftime("%H:%M:%S", time.gmtime(left)) if rate else "-"

    def _line(self, step: Step, now: float) -> str:
        rate, left = self._rate(step, now)
        name = f"{step.walker}: " if len(self._last) > 1 else ""
        error = "" if step.force_error_eV_per_A is None else f", force error was {step.force_error_eV_per_A:.3f} eV/A"
        return (
            f"{name}step {step.step:6d}/{step.n_steps}  {step.temperature_K:7.1f} K  {step.energy_eV:14.4f} eV  "
            f"expected error {_shown(step.expected_error_eV_per_A)} of {_shown(step.threshold)} eV/A  "
            f"labels {step.n_labels:4d}  {rate:6.1f} steps/s  left {left}"
            + (f"  {step.reason}: labelled{error}" if step.labelled else "")
        )

    def _table(self, now: float) -> Table:
        heads = ("walker", "step", "temperature", "energy", "expected error", "threshold", "labels", "steps/s", "left")
        table = Table(*heads)
        for name, step in self._last.items():
            rate, left = self._rate(step, now)
            table.add_row(
                name,
                f"{step.step}/{step.n_steps}",
                f"{step.temperature_K:.1f} K",
                f"{step.energy_eV:.3f} eV",
                f"{_shown(step.expected_error_eV_per_A)} eV/A",
                f"{_shown(step.threshold)} eV/A",
                str(step.n_labels),
                f"{rate:.1f}",
                left,
            )
        return table


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
