"""Nobody else's programs run where labels are made."""

import logging
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from labelling import LJ, crystal

from mlpot.errors import ConfigError
from mlpot.labels.plan import LabellingPlan
from mlpot.learning.run_folder import opened_source
from mlpot.workers import cluster as module
from mlpot.workers.cluster import dask_executor, queue_executor

distributed = pytest.importorskip("distributed", reason="Dask is not installed")
pytest.importorskip("cryptography", reason="cryptography is not installed")
STRANGER = """
import sys, distributed
security = distributed.Security.temporary() if sys.argv[2] == "certified" else None
client = distributed.Client(sys.argv[1], security=security, timeout=5, set_as_default=False)
print("inside", client.submit(int, 3).key)
"""


def a_stranger(address, kind):
    """What a program without the run's certificates gets to see of a scheduler."""
    return subprocess.run([sys.executable, "-c", STRANGER, address, kind], capture_output=True, text=True, timeout=60, check=False)


def files_of(security, folder):
    """The certificates of a temporary security object, for a configuration."""
    found = security.get_tls_config_for_role("client")
    names = {"ca": "ca_file", "certificate": "cert", "key": "key"}
    for name, key in names.items():
        (folder / f"{name}.pem").write_text(found[key])
    return {name: folder / f"{name}.pem" for name in names}


@pytest.fixture
def slurm_cluster(tmp_path, monkeypatch):
    """What jobs of Slurm would connect to; nothing is submitted, as nothing is asked for."""
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    monkeypatch.setattr(module, "_check_job", lambda script: scripts.append(script))
    scripts: list[str] = []
    executor = queue_executor("slurm", {"memory": "500MB"}, 1, None, None, tmp_path)
    yield executor._client, scripts
    executor.shutdown(wait=False)


@pytest.mark.slow
def test_a_stranger_does_not_get_in(slurm_cluster):
    client, scripts = slurm_cluster
    address = client.scheduler.address
    assert address.startswith("tls://") and "--tls-key" in scripts[0]
    for where, kind in ((address, "open"), (address.replace("tls://", "tcp://"), "open"), (address, "certified")):
        found = a_stranger(where, kind)
        assert found.returncode and "inside" not in found.stdout
    assert client.status == "running"  # its own client is there as before


def test_it_listens_at_one_address_and_serves_no_pages(slurm_cluster):
    client, _ = slurm_cluster
    scheduler = client.cluster.scheduler
    host = distributed.utils.get_ip()
    assert all(host in listener.listen_address for listener in scheduler.listeners)
    port = scheduler.http_server.port
    with socket.create_connection(("127.0.0.1", port), timeout=5) as page:
        page.sendall(b"GET /info/main/workers.html HTTP/1.0\r\n\r\n")
        assert page.recv(100).split()[1] == b"404"
    with pytest.raises(OSError):
        socket.create_connection((host, port), timeout=5)


def test_keys_are_for_their_owner(tmp_path, monkeypatch):
    """Those of a run that was killed are gone with the next one."""
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    monkeypatch.setattr(module, "_check_job", lambda script: None)
    secrets = tmp_path / module.SECRETS
    secrets.mkdir()
    (secrets / "left").write_text("a key")
    queue_executor("slurm", {"memory": "500MB"}, 1, None, None, tmp_path).shutdown(wait=False)
    assert secrets.stat().st_mode & 0o077 == 0
    assert not (secrets / "left").exists()


@pytest.mark.slow
def test_labels_over_tls(tmp_path):
    """A cluster of the user's own, with certificates."""
    security = distributed.Security.temporary()
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, security=security, protocol="tls://"
    ) as cluster:
        tls = {name: str(file) for name, file in files_of(security, tmp_path).items()}
        plan = LabellingPlan(LJ, executor="dask", scheduler=cluster.scheduler_address, tls=tls)
        with opened_source(plan, tmp_path / "run", resume=False) as (_, source):
            assert source.obtain(crystal()).atoms is not None


def test_an_open_scheduler_is_named(caplog):
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster, caplog.at_level(logging.WARNING):
        dask_executor(cluster.scheduler_address, None, None).shutdown()
    assert "labeller.tls" in caplog.text


def test_a_certificate_that_is_not_there(tmp_path):
    files = dict.fromkeys(("ca", "certificate", "key"), Path(tmp_path) / "none.pem")
    with pytest.raises(ConfigError, match=r"labeller.tls.ca = '.*none.pem': no such file"):
        dask_executor("tls://127.0.0.1:1", None, None, files)
