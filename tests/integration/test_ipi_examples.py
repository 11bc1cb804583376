"""The script that runs i-PI's own examples, on a little tree that is laid out like i-PI's."""

import os
import runpy
from pathlib import Path

import numpy as np
import pytest
from ipi_runs import I_PI

pytestmark = pytest.mark.skipif(not I_PI.exists(), reason="i-PI is not installed")
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "ipi_examples.py"
SOCKET = "<ffsocket name='{name}' mode='{mode}'><address> driver </address></ffsocket>"
SYSTEM = """<system{prefix}><initialize nbeads='{beads}'><file mode='xyz'> init.xyz </file>
<velocities mode='thermal' units='kelvin'> 300 </velocities></initialize>
<forces><force forcefield='{name}'/></forces>{motion}
<ensemble><temperature units='kelvin'> 300 </temperature>{pressure}</ensemble></system>"""
DYNAMICS = """<motion mode='dynamics'><dynamics mode='{mode}'><timestep units='femtosecond'> 0.5 </timestep>
<thermostat mode='{thermostat}'><tau units='femtosecond'> 50 </tau></thermostat>{barostat}</dynamics></motion>"""
BAROSTAT = """<barostat mode='isotropic'><tau units='femtosecond'> 100 </tau>
<thermostat mode='langevin'><tau units='femtosecond'> 50 </tau></thermostat></barostat>"""
WATER = """6
# CELL(abcABC): 20.0 20.0 20.0 90.0 90.0 90.0 Step: 0 positions{atomic_unit} cell{atomic_unit}
O 0 0 0
H 1.8 0 0
H -0.5 1.75 0
O 5.6 0 0
H 7.4 0 0
H 5.1 1.75 0
"""


def system(motion=None, mode="nvt", beads=1, name="f", prefix=""):
    npt = mode == "npt"
    motion = motion or DYNAMICS.format(
        mode=mode, thermostat="langevin" if beads == 1 else "pile_l", barostat=BAROSTAT if npt else ""
    )
    pressure = "<pressure units='bar'> 1 </pressure>" if npt else ""
    return SYSTEM.format(beads=beads, name=name, motion=motion, prefix=prefix, pressure=pressure)


def socket(name="f", mode="unix"):
    return SOCKET.format(name=name, mode=mode)


PHONONS = """<motion mode='vibrations'><vibrations mode='fd'><pos_shift> 0.01 </pos_shift><prefix> phonons </prefix>
<asr> none </asr></vibrations></motion>"""
INSTANTON = """<motion mode='instanton'><instanton mode='rate'><alt_out> 1 </alt_out><opt> nichols </opt><delta> 0.1 </delta>
<hessian mode='file' shape='(18, 18)'> hessian.dat </hessian>
<hessian_update> powell </hessian_update><hessian_asr> none </hessian_asr>
<hessian_final> false </hessian_final></instanton></motion>"""
REMD = "<smotion mode='remd'><remd><stride> 1 </stride></remd></smotion>"
TREE = {
    "features/classical_molecular_dynamics/nvt_ensemble_liquid_water": ("NVT", socket(mode="inet") + system()),
    "features/classical_molecular_dynamics/NPT_ensemble_BZP_ice": ("NPT", socket() + system(mode="npt")),
    "features/path_integral_molecular_dynamics/standard_pimd_liquid_water": ("PIMD", socket() + system(beads=4)),
    "features/path_integral_molecular_dynamics/remd_liquid_water": (
        "REMD", socket() + system(prefix=" prefix='a'") + system(prefix=" prefix='b'") + REMD,
    ),
    "features/committee_models/weighted_baseline": (
        "committee", f"<ffcommittee name='c'>{socket()}{socket('g')}</ffcommittee>" + system(name="c"),
    ),
    "features/phonons/FD-Phonons/lammps_paracetamol": ("phonons", socket() + system(PHONONS)),
    "features/Instanton/Rates/CH4-H/instanton/Vanilla_optimization": ("instanton", socket() + system(INSTANTON, beads=4)),
}  # fmt: skip


@pytest.fixture
def tree(tmp_path):
    shared = tmp_path / "examples" / "init_files" / "water.xyz"
    shared.parent.mkdir(parents=True)
    shared.write_text(WATER)
    for name, (kind, body) in TREE.items():
        folder = tmp_path / "examples" / name
        folder.mkdir(parents=True)
        (folder / "init.xyz").symlink_to(os.path.relpath(shared, folder))
        (folder / "left_over.xyz").symlink_to("nowhere.xyz")
        np.savetxt(folder / "hessian.dat", np.diag([-0.01] + [0.01] * 17))
        mode = " mode='static'" if kind in ("phonons", "instanton") else ""
        (folder / "input.xml").write_text(
            f"<simulation{mode} verbosity='low'><output prefix='o'/><total_steps> 99999 </total_steps>{body}</simulation>"
        )
    return tmp_path


@pytest.mark.slow
def test_every_kind_runs(tree, capsys):
    main = runpy.run_path(str(SCRIPT), run_name="script")["main"]
    code = main([str(tree), "--steps", "2"])
    said = capsys.readouterr().out
    rows = {line.split()[0]: line for line in said.splitlines()[1:]}
    assert set(rows) == {kind for kind, _ in TREE.values()}, said
    assert all(row.endswith(": ran") for row in rows.values()) and code == 0, said


def test_a_folder_that_is_none(tmp_path, capsys):
    main = runpy.run_path(str(SCRIPT), run_name="script")["main"]
    assert main([str(tmp_path)]) == 1
    assert "not found: committee, REMD" in capsys.readouterr().out
