"""The live view of a learning run: a table that renews itself in a terminal, plain lines in a file."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..durable import as_run_folder_error
from ..errors import counted, printable, system_trouble
from ..learning.log_format import QUEUED, Step

PLAIN_SECONDS = 10.0
"""Between two plain lines; labelled steps always get one."""
REFRESHES = 4
"""Refreshes of the table per second."""


class LogFile(logging.FileHandler):
    """Lines for a file; those that it does not take, as when the disk is full, are shown on standard error."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Show the line in place of a traceback."""
        self._show(record.getMessage())

    def close(self) -> None:
        """Finish the file."""
        try:
            super().close()
        except OSError as error:
            self._show(f"{self.baseFilename}: its end is lost: {system_trouble(error)}")

    def _show(self, text: str) -> None:
        Console(stderr=True, highlight=False, soft_wrap=True).print(printable(text), markup=False)


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
        self._console, self._path = console, file
        with as_run_folder_error(file):
            self.handler = LogFile(file)
        self._live = Live(console=console, refresh_per_second=REFRESHES) if console.is_terminal else None
        self._drawn = 0.0
        self._first: dict[str, tuple[float, int]] = {}
        self._last: dict[str, Step] = {}
        self._seen: dict[str, float] = {}
        self._last_label: dict[str, Step] = {}
        self._last_line: dict[str, float] = {}

    def __enter__(self) -> LiveView:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception) -> None:
        if self._live:
            if self._last:
                self._live.update(self._table())
            self._live.stop()
        logging.getLogger("mlpot").removeHandler(self.handler)
        self.handler.close()

    def show(self, step: Step) -> None:
        """Take note of a step."""
        now = time.monotonic()
        self._first.setdefault(step.walker, (now, step.step))
        self._last[step.walker], self._seen[step.walker] = step, now
        if step.labelled or step.reason in QUEUED:
            self._last_label[step.walker] = step
        if self._live and now - self._drawn > 1 / REFRESHES:
            self._drawn = now
            self._live.update(self._table())
        quiet = now - self._last_line.get(step.walker, 0.0)
        if step.labelled or quiet > PLAIN_SECONDS or step.step == step.n_steps:
            self._last_line[step.walker] = now
            self._write(self._line(step, now))

    def _write(self, line: str) -> None:
        if (stream := self.handler.stream) is None:
            raise ValueError(f"{self._path}: closed before the last line")
        with as_run_folder_error(self._path):
            stream.write(line + "\n")
            self.handler.flush()
        if not self._live:
            self._console.print(line, markup=False)

    def _rate(self, step: Step, now: float) -> tuple[float, str]:
        """Steps per second since this process began, and the time that is left at that pace."""
        began, first = self._first[step.walker]
        rate = (step.step - first) / (now - began) if now > began else 0.0
        if not rate or step.n_steps is None:
            return rate, "-"
        return rate, _clock((step.n_steps - step.step) / rate)

    def _line(self, step: Step, now: float) -> str:
        rate, left = self._rate(step, now)
        name = f"{step.walker}: " if len(self._last) > 1 else ""
        queued = f" (+{step.n_queued} under way)" if step.n_queued else ""
        error = "" if step.force_error_eV_per_A is None else f", force error was {step.force_error_eV_per_A:.3f} eV/A"
        of_all = "" if step.n_steps is None else f"/{step.n_steps}"
        return (
            f"{name}step {step.step:6d}{of_all}  {_course(step)}  {step.energy_eV:14.4f} eV  "
            f"expected error {_shown(step.expected_error_eV_per_A)} of {_shown(step.threshold)} eV/A  "
            f"labels {step.n_labels:4d}{queued}  {rate:6.1f} steps/s  left {left}"
            + (f"  {step.reason}: labelled{error}" if step.labelled else "")
        )

    def _table(self) -> Table:
        """A row per walker, in the width of a terminal of 100 columns; what all share stands above."""
        newest = max(self._last.values(), key=lambda step: step.n_labels)
        rates = {name: self._rate(step, self._seen[name]) for name, step in self._last.items()}
        rate = sum(steps for steps, _ in rates.values())
        title = f"{counted(newest.n_labels, 'label')}, {newest.n_queued} under way, {rate:.1f} steps/s in all"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
        table.add_column("walker", no_wrap=True, overflow="ellipsis", max_width=16)
        for head in ("step", "T/K", "E/eV", "error", "of eV/Å", "left"):
            table.add_column(head, justify="right", no_wrap=True)
        table.add_column("last label", no_wrap=True, overflow="ellipsis")
        for name, step in self._last.items():
            label = self._last_label.get(name)
            table.add_row(
                name, str(step.step), "-" if step.temperature_K is None else f"{step.temperature_K:.0f}", f"{step.energy_eV:.2f}",
                _shown(step.expected_error_eV_per_A), _shown(step.threshold), rates[name][1],
                "-" if label is None else f"{label.reason} {label.step}",
            )  # fmt: skip
        return table


def _course(step: Step) -> str:
    """Temperature of dynamics, largest force of a relaxation."""
    if step.temperature_K is None:
        return f"force {step.max_force_eV_per_A:.3f} eV/A"
    return f"{step.temperature_K:7.1f} K"


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds; a run may take days."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
