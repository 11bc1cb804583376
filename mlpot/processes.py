"""Who holds a file: a process that can be told from another that got its number later."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def identity() -> dict:
    """Host, pid and start time of this process."""
    pid = os.getpid()
    return {"host": platform.node(), "pid": pid, "started": start_time(pid)}


def is_alive(owner: dict) -> bool:
    """Whether the process of `identity` still runs; one on another host is believed to."""
    if owner.get("host") != platform.node():
        return True
    started = start_time(int(owner["pid"]))
    return started is not None and started == owner.get("started")


def start_time(pid: int) -> str | None:
    """When a process started, in whatever form the system tells; None when there is no such process or it is a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
