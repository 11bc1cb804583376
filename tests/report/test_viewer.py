"""The viewer of structures: what the page holds, and what a browser makes of it."""

import json
import re
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlpot.report.html import write_page
from mlpot.report.viewer import _frame, viewer


def frame(step=3, n=8, scale=0.1):
    atoms = bulk("Si", cubic=True)
    atoms.positions += 20.0
    atoms.arrays["forces_std"] = scale * np.arange(1, n + 1)[:, None] * np.ones(3)
    atoms.info["step"] = step
    return atoms


def content(html):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)[1])


def test_atoms_deviations_and_cell_are_on_the_page():
    found = content(viewer([frame(0, scale=0.05), frame()], "Walker a<b"))
    last = found["frames"][-1]
    assert last["name"] == "step 3" and last["numbers"] == [14] * 8 and found["symbols"] == {"14": "Si"}
    np.testing.assert_allclose(last["std"], 0.1 * np.arange(1, 9), rtol=1e-3)
    assert len(last["edges"]) == 12
    positions = np.array(last["positions"])
    assert positions.min() > -0.01 and positions.max() < 5.44, "atoms are wrapped into the cell"
    assert 0.7 < found["largest"] <= 0.8


def test_molecules_have_no_cell_and_every_point_fits():
    atoms = Atoms("OH2", [[0, 0, 0], [0.9, 0, 0], [0, 5.0, 0]])
    atoms.arrays["forces_std"] = np.ones((3, 3))
    found = _frame(atoms)
    assert found["edges"] == [] and found["name"] == "structure"
    distances = np.linalg.norm(np.array(found["positions"]) - found["middle"], axis=1)
    assert distances.max() < found["radius"]


def test_nothing_on_the_page_comes_from_elsewhere():
    page = files("mlpot.report").joinpath("viewer.html").read_text() + viewer([frame()], "<script>")
    assert "http" not in page and "src=" not in page and 'aria-label="&lt;script&gt;"' in page


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1000])
def test_a_browser_draws_it(tmp_path, width):
    """On a phone and on a screen: no error, nothing wider than the page, coloured atoms on the canvas."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium")
    probe = """<script>
    const canvas = document.querySelector("canvas"), said = document.querySelector("output").textContent;
    const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let red = 0, blue = 0;
    for (let k = 0; k < image.length; k += 4) {
      red += image[k + 3] > 200 && image[k] > image[k + 2] + 60;
      blue += image[k + 3] > 200 && image[k + 2] > image[k] + 60;
    }
    const wide = document.documentElement.scrollWidth > window.innerWidth;
    document.title = `red=${red > 50} blue=${blue > 50} wide=${wide} said=${said}`;
    </script>"""
    script = files("mlpot.report").joinpath("viewer.html").read_text()
    write_page(tmp_path / "page.html", "viewer", [script, viewer([frame(0), frame()], "Walker"), probe])
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},800", "--dump-dom"]
    done = subprocess.run([*command, f"file://{tmp_path / 'page.html'}"], capture_output=True, text=True, timeout=60, check=False)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1]
    assert title == "red=true blue=true wide=false said=step 3; least certain: Si (atom 7), 0.80 eV/Å"
