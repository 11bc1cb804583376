"""A Slurm of one node on this machine, started and stopped by the tests."""

import os
import platform
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,defer_batch
SwitchType=switch/none
MpiDefault=none
KillWait=2
MinJobAge=30
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
PartitionName=short Nodes={host} MaxTime=1 State=UP
"""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue")


def why_not():
    """Why no Slurm can be started here, or None."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        return f"{missing[0]} is missing: apt-get install slurm-wlm munge"
    return "Slurm's daemons need root here" if os.geteuid() else None


def _path():
    return os.environ["PATH"] + ":/usr/sbin:/sbin"


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(folder):
    """Environment for Slurm's commands, while the daemons run."""
    folder.mkdir(mode=0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = platform.node().split(".")[0]
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=host, folder=folder, controller=_free_port(), daemon=_free_port(), cpus=os.cpu_count()
        )
    )
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
    files = [f"--{name}={folder}/munge.{name}" for name in ("socket", "seed-file", "pid-file", "log-file")]
    commands = (
        ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key", *files],
        ["slurmctld", "-D", "-c", "-L", f"{folder}/slurmctld.log"],
        ["slurmd", "-D", "-c", "-N", host, "-L", f"{folder}/slurmd.log"],
    )
    daemons = []
    try:
        for command in commands:
            log = (folder / f"{command[0]}.out").open("wb")
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
            time.sleep(0.5)
        _await_node(environment)
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment, check=False, timeout=10, capture_output=True)
        _await_empty_queue(environment)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _answer(environment, *command):
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip()


def _await_node(environment):
    end = time.monotonic() + 30
    while _answer(environment, "sinfo", "-h", "-o", "%T") != "idle":
        assert time.monotonic() < end, _answer(environment, "sinfo", "-l")
        time.sleep(0.3)


def _await_empty_queue(environment):
    end = time.monotonic() + 20
    while jobs(environment, "") and time.monotonic() < end:
        time.sleep(0.3)


def jobs(environment, state="R"):
    """Ids of the jobs in a state, or of all."""
    choice = ["-t", state] if state else []
    return _answer(environment, "squeue", "-h", *choice, "-o", "%i").split()


def cancel(environment, job):
    """End a job as an administrator would."""
    subprocess.run(["scancel", job], env=environment, check=False, timeout=20)
