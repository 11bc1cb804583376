"""A run seen while it runs: a page on a loopback address, which nobody else can read, and which grows with the log."""

import csv
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlpot.commands.main import app
from mlpot.commands.watch import watched
from mlpot.errors import ConfigError
from mlpot.learning.log_format import LOG, LOG_COLUMNS
from mlpot.report.watch import MOST_POINTS, Watched, Watcher, template


def write_log(folder, n_steps, walkers=("hot", "cold")):
    """A log as a run writes it, with a label in every fiftieth step."""
    with open(folder / LOG, "w", newline="") as handle:
        rows = csv.DictWriter(handle, LOG_COLUMNS)
        rows.writeheader()
        for step in range(n_steps):
            for k, walker in enumerate(walkers):
                values = dict.fromkeys(LOG_COLUMNS, 0.1 + k) | {"step": step, "labelled": int(step % 50 == 0), "walker": walker}
                rows.writerow(values | {"reason": "novel" if step % 50 == 0 else "certain", "force_error_eV_per_A": ""})


@contextmanager
def served(folder):
    watcher = Watcher(folder)
    thread = threading.Thread(target=watcher.serve)
    thread.start()
    try:
        yield watcher.address
    finally:
        watcher.close()
        thread.join(10)


def get(address, path, host=None, method="GET"):
    """Status, headers and body of an answer."""
    port = int(address.rstrip("/").rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    return answer.status, dict(answer.headers), answer.read()


def test_the_page_grows_with_the_run(tmp_path):
    with served(tmp_path) as address:
        assert address.startswith("http://127.0.0.1:")
        status, headers, page = get(address, "/")
        assert status == 200 and b"<title>mlpot: " in page and "default-src 'none'" in headers["Content-Security-Policy"]
        before = json.loads(get(address, "/log.json")[2])
        assert before["walkers"] == {}, "a run without a step yet"
        assert b"no report yet" in get(address, "/report.html")[2]
        write_log(tmp_path, 3)
        after = json.loads(get(address, "/log.json")[2])
        assert after["version"] != before["version"] and after["walkers"]["cold"]["step"] == [0, 1, 2]
        assert after["walkers"]["hot"]["novelty"] == [0.1] * 3 and after["walkers"]["cold"]["labelled"] == [1, 0, 0]
        assert after["walkers"]["hot"]["force_error_eV_per_A"] == [None] * 3
        assert get(address, "/log.csv")[0] == get(address, "/../etc/passwd")[0] == 404
    assert sorted(file.name for file in tmp_path.iterdir()) == [LOG], "nothing else is written"


def test_only_this_machine_reads_it(tmp_path):
    """A page of another site whose name resolves to a loopback address is refused, and so is every method but GET."""
    with served(tmp_path) as address:
        port = address.rstrip("/").rpartition(":")[2]
        assert get(address, "/log.json", f"evil.example:{port}")[0] == 403
        assert get(address, "/log.json", "")[0] == 403
        assert get(address, "/log.json", f"localhost:{port}")[0] == 200
        assert get(address, "/", method="POST")[0] == 501


def test_long_runs_are_thinned_but_labels_stay(tmp_path):
    write_log(tmp_path, 3000, ["main"])
    curve = Watched(tmp_path).curves()["walkers"]["main"]
    assert len(curve["step"]) <= 2 * MOST_POINTS and curve["step"][0] == 0 and curve["step"][-1] == 2999
    assert sum(curve["labelled"]) == 60


def test_the_page_loads_nothing():
    page = template()
    assert not re.findall(r"""(?:src|href)=["'](?!/report|data:)[^"']*|@import|url\(|https?://(?!www\.w3\.org/2000/svg)""", page)


def test_wrong_folders_and_ports(tmp_path):
    said = CliRunner().invoke(app, ["watch", str(tmp_path / "none")])
    assert said.exit_code == 2
    taken = Watcher(tmp_path)
    with pytest.raises(ConfigError, match="choose another"):
        Watcher(tmp_path, int(taken.address.rstrip("/").rpartition(":")[2]))
    taken._server.server_close()


def test_the_process_of_a_watched_run_ends_with_it(tmp_path, monkeypatch, capfd):
    started = []
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(real(*a, **k)) or started[-1])
    with watched(tmp_path, True):
        assert started[0].poll() is None
    assert started[0].returncode == -signal.SIGTERM
    with watched(tmp_path, False):
        assert len(started) == 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1200])
def test_in_a_browser(tmp_path, width):
    """Curves are drawn, the state is said, and nothing is wider than the screen: judged by the browser itself."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium")
    write_log(tmp_path, 120)
    with served(tmp_path) as address:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},800"]
        command += ["--virtual-time-budget=3000", "--enable-logging=stderr", "--dump-dom", address]
        home = {**os.environ, "HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=home, check=True)
    assert done.stdout.count("<polyline") == 2 * 4 and "hot: step 119" in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr


def test_the_page_belongs_to_the_package():
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    assert '"report/*.html"' in text and sys.version_info >= (3, 11)
