"""The report of a run while it goes on: a page on a loopback address that renews itself.

The server reads the run folder and writes nothing into it but report.html, as `mlpot report` does. It listens on 127.0.0.1 only, and
answers requests only if their Host is a loopback address, so that a page of another site cannot read it through a browser.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, MlpotError, system_trouble
from ..learning.log_format import LOG
from .log_file import read_log
from .run_report import write_run_report

LOOPBACK = "127.0.0.1"
HOSTS = ("127.0.0.1", "localhost", "[::1]")
MOST_POINTS = 400
"""Points of a curve on the page; of longer runs, evenly spaced steps and all labelled ones."""
REPORT_SECONDS = 20.0
"""Smallest time between two reports, which take a second or more each."""
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "frame-src 'self'; frame-ancestors 'self'"
)
COLUMNS = {
    "expected_error_eV_per_A": "expected error / (eV/Å)", "force_error_eV_per_A": "error of the label / (eV/Å)",
    "threshold": "threshold / (eV/Å)", "temperature_K": "temperature / K", "energy_eV": "energy / eV", "novelty": "novelty",
}  # fmt: skip
"""Columns of log.csv that the page has, and their names there."""


class Watched:
    """A run folder: the latest steps of its log, and its report.

    Parameters
    ----------
    folder : Path
        May be empty still: the page waits for the first steps.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = threading.Lock()
        self._reported = 0.0
        self._report = b""

    @property
    def version(self) -> str:
        """Changes with the log."""
        log = self.folder / LOG
        try:
            status = log.stat()
        except OSError:
            return "0"
        return f"{status.st_size}-{status.st_mtime_ns}"

    def curves(self) -> dict[str, Any]:
        """Steps for the page: by walker, columns of equal length with null for missing values."""
        found: dict[str, Any] = {"version": self.version, "names": COLUMNS, "walkers": {}}
        try:
            log = read_log(self.folder / LOG)
        except MlpotError:  # no step yet
            return found
        walkers = np.asarray(log["walker"])
        for walker in dict.fromkeys(walkers.tolist()):
            rows = np.flatnonzero(walkers == walker)
            labelled = np.asarray(log["labelled"])[rows] > 0
            spaced = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_POINTS)).astype(int))
            kept = rows[np.union1d(spaced, np.flatnonzero(labelled)[-MOST_POINTS:])]
            columns = {name: _numbers(np.asarray(log[name])[kept]) for name in ("step", "labelled", *COLUMNS)}
            reasons = [str(reason) for reason in np.asarray(log["reason"])[kept]]
            found["walkers"][str(walker)] = {**columns, "reason": reasons}
        return found

    def report(self) -> bytes:
        """The report as HTML, made again if the log has changed and the last one is not too recent."""
        with self._lock:
            now = time.monotonic()
            if not self._report or now - self._reported > REPORT_SECONDS:
                try:
                    self._report = write_run_report(self.folder).read_bytes()
                except MlpotError as error:
                    self._report = f"<!doctype html><p>{type(error).__name__}: no report yet</p>".encode()
                self._reported = time.monotonic()
            return self._report


class Watcher:
    """Serves the page of a run on a loopback address until it is closed.

    Parameters
    ----------
    folder : Path
    port : int
        0: any that is free.

    Raises
    ------
    ConfigError
        If the port cannot be used.
    """

    def __init__(self, folder: Path, port: int = 0):
        watched = Watched(folder)
        handler = type("Handler", (_Handler,), {"watched": watched})
        try:
            self._server = ThreadingHTTPServer((LOOPBACK, port), handler)
        except OSError as error:
            raise ConfigError(f"--port {port}: cannot be used ({system_trouble(error)}); choose another, or leave it out") from error
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """For a browser."""
        return f"http://{LOOPBACK}:{self._server.server_port}/"

    def serve(self) -> None:
        """Answer requests until `close` is called from another thread, or an exception such as KeyboardInterrupt comes."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """End `serve` and release the port."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers three addresses, by GET alone."""

    watched: Watched
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The page, its numbers, or the report."""
        if not self._is_local:
            self._answer(403, "text/plain", b"only for this machine\n")
            return
        pages = {"/": self._page, "/log.json": self._log, "/report.html": self._report}
        make = pages.get(self.path.partition("?")[0])
        if make is None:
            self._answer(404, "text/plain", b"there are /, /log.json and /report.html\n")
        else:
            make()

    @property
    def _is_local(self) -> bool:
        return (self.headers.get("Host") or "").rpartition(":")[0] in HOSTS

    def _page(self) -> None:
        title = f"mlpot: {self.watched.folder.absolute().name}"
        safe = title.replace("&", "&amp;").replace("<", "&lt;")
        self._answer(200, "text/html; charset=utf-8", template().replace("TITLE", safe).encode())

    def _log(self) -> None:
        self._answer(200, "application/json", json.dumps(self.watched.curves()).encode())

    def _report(self) -> None:
        self._answer(200, "text/html; charset=utf-8", self.watched.report())

    def _answer(self, code: int, kind: str, content: bytes) -> None:
        self.send_response(code)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
        headers |= {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""


def template() -> str:
    """The page, which is one file without links to elsewhere."""
    return files(__package__).joinpath("watch.html").read_text(encoding="utf-8")


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(x) if np.isfinite(x) else None for x in np.asarray(values, float)]
