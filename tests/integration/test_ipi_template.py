"""What `mlpot template ipi` writes is taken by the real i-PI, which finds the driver and the structure."""

import os
import re
import sys

import ase.io
import numpy as np
import pytest
from conftest import make_frames
from ipi_runs import I_PI, Process, server
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.commands.templates_ipi import INPUT

pytestmark = pytest.mark.skipif(not I_PI.exists(), reason="i-PI is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("beads", [1, 4])
@pytest.mark.parametrize("pbc", [True, False])
def test_i_pi_runs_it(tmp_path, monkeypatch, two_species_model, beads, pbc):
    """The first potential energy is that of the structure as it was given: no unit, cell, turn or order is wrong."""
    monkeypatch.chdir(tmp_path)
    two_species_model.save("model.h5")
    name = f"mlpot_{os.getpid()}_{beads}_{pbc}"
    atoms = make_frames(1, numbers=(6, 14), seed=9)[0]
    atoms.calc = None
    atoms.pbc = pbc
    if not pbc:
        atoms.cell = None
    atoms.rotate(40, (1, 2, 3), rotate_cell=True)
    ase.io.write(f"{name}.xyz", atoms)
    result = CliRunner().invoke(app, ["template", "ipi", f"{name}.xyz", "--beads", str(beads)])
    assert result.exit_code == 0, result.output
    text = (tmp_path / INPUT).read_text()
    (tmp_path / INPUT).write_text(re.sub(r"<total_steps>\d+", "<total_steps>20", text))
    command = re.search(r"<\?instead mlpot (.*)\?>", text).group(1).split()
    with (
        server(tmp_path, INPUT) as ipi,
        Process([sys.executable, "-m", "mlpot", *command], tmp_path, "driver.log") as driver,
    ):
        assert ipi.wait() == 0, ipi.text
        assert driver.wait(20) == 0, driver.text
    rows = np.loadtxt("ipi.md")
    assert rows[:, 0].tolist() == [0, 10, 20] and np.isfinite(rows).all()
    potential = rows[0, -2]
    assert potential == pytest.approx(mlpot.load_model("model.h5").predict(atoms).energy, abs=1e-5)
    if pbc:
        assert rows[0, -1] == pytest.approx(atoms.get_volume(), rel=1e-6)
    assert [np.loadtxt(file).shape for file in tmp_path.glob("ipi.learning_*")] == [(3, 4)] * beads
