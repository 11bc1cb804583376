"""GAP potentials made on the spot by gap_fit, tabulated potentials, and structures of every kind to compare on."""

import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111
from conftest import make_frames

GAP_FIT = Path(sys.executable).parent / "gap_fit"
SOAP = (
    "soap n_max=4 l_max=3 cutoff=4.0 cutoff_transition_width=0.5 atom_sigma=0.5 n_sparse=20 delta=0.5 "
    "covariance_type=dot_product sparse_method=cur_points "
)
PAIR = (
    "distance_2b cutoff=4.5 cutoff_transition_width=1.0 covariance_type=ard_se theta_uniform=0.8 n_sparse=12 delta=0.7 "
    "sparse_method=uniform "
)
TRIPLET = (
    "angle_3b cutoff=3.5 cutoff_transition_width=0.7 covariance_type=ard_se theta_uniform=1.0 n_sparse=20 delta=0.3 "
    "sparse_method=uniform "
)
BOTH = "n_species=2 species_Z={{14 6}} add_species=F "
GAPS = {
    "soap": ((14,), SOAP + "zeta=4 add_species=T"),
    "soap with f0": ((14,), SOAP + "zeta=4 f0=0.1 add_species=T"),
    "soap with zeta 2.5": ((14,), SOAP + "zeta=2.5 central_weight=0.5 add_species=T"),
    "soap with sigma0": ((14,), SOAP + "zeta=2 covariance_sigma0=0.1 basis_error_exponent=8 add_species=T"),
    "soap of two elements": ((6, 14), SOAP + "zeta=4 add_species=T"),
    "soap of three elements": ((6, 8, 14), SOAP + "zeta=2 add_species=T"),
    "soap of one centre": ((6, 14), SOAP + "zeta=4 Z=6 " + BOTH),
    "soap of a list of centres": ((6, 14), SOAP + "zeta=2 n_Z=2 Z={{6 14}} " + BOTH),
    "soap with central reference": ((6, 14), SOAP + "zeta=4 central_reference_all_species=T add_species=T"),
    "distance_2b": ((14,), PAIR + "add_species=T"),
    "distance_2b of two elements": ((6, 14), PAIR + "add_species=T"),
    "distance_2b of any elements": ((6, 14), PAIR + "add_species=F : " + SOAP + "zeta=2 add_species=T"),
    "sum": ((6, 14), PAIR + "add_species=T : " + SOAP + "zeta=4 add_species=T"),
    "sum with two reaches": ((14,), PAIR + "Z1=14 Z2=14 add_species=F : " + SOAP.replace("4.0", "3.0") + "zeta=1 add_species=T"),
    "defaults": (
        (14,),
        SOAP.replace("cutoff_transition_width=0.5 ", "") + "zeta=2 add_species=T : "
        + PAIR.replace("cutoff_transition_width=1.0 ", "") + "add_species=T",
    ),
    "angle_3b": ((14,), TRIPLET + "add_species=T"),
    "angle_3b of two elements": ((6, 14), TRIPLET + "add_species=T"),
    "angle_3b with elements twice": ((14,), TRIPLET + "Z_center=14 Z1=14 Z2=14 add_species=T"),
    "sum of all": ((6, 14), PAIR + "add_species=T : " + TRIPLET + "add_species=T : " + SOAP + "zeta=4 add_species=T"),
    "Glue": ((6, 14), PAIR + "add_species=T"),
}  # fmt: skip
"""Elements and gap_fit's `gap` argument of each potential."""


def fit_gap(folder, numbers, gap, **options):
    """Run gap_fit on rattled crystals; the path of the XML."""
    ase.io.write(folder / "train.xyz", make_frames(3, numbers=numbers), format="extxyz")
    settings = {
        "at_file": "train.xyz", "gap": f"{{{gap}}}", "e0_method": "average", "default_sigma": "{0.01 0.1 0.1 0.0}",
        "force_parameter_name": "forces", "virial_parameter_name": "none", "gp_file": "gp.xml", "sparse_jitter": "1e-8",
        **options,
    }  # fmt: skip
    arguments = [str(GAP_FIT), *(f"{key}={value}" for key, value in settings.items())]
    subprocess.run(arguments, cwd=folder, check=True, capture_output=True)
    return folder / "gp.xml"


def fit_gap_on_glue(folder, numbers, gap):
    """As `fit_gap`, above a tabulated potential."""
    (folder / "glue.xml").write_text(f"<params>{glue_text(numbers)}</params>")
    return fit_gap(folder, numbers, gap, core_param_file="glue.xml", core_ip_args="{IP Glue label=core}")


def glue_text(numbers, label="core"):
    """A `<Glue_params>` element with densities, embedding energies and pair potentials."""
    kinds = list(enumerate(reversed(numbers), 1))
    lines = [f'<Glue_params n_types="{len(kinds)}" label="{label}">']
    for kind, z in kinds:
        reach = 3.6 + 0.2 * kind
        a = np.linspace(1.0, reach, 8)
        lines.append(f'<per_type_data atomic_num="{z}" type="{kind}">')
        lines += _table(
            "density", "a", "rho", a, 0.02 * (reach - a) ** 3 + 0.01 * np.sin(3 * a), 'density_y1="0" density_yn="0"'
        )
        rho = np.linspace(0.1, 2.0, 7)
        lines += _table("potential_density", "rho", "E", rho, 0.2 * rho - np.sqrt(rho + 0.1 * kind))
        lines.append("</per_type_data>")
    for first, _ in kinds:
        for second, _ in kinds[first - 1 :]:
            r = np.linspace(1.8, 3.8 + 0.1 * second, 10)
            lines.append(f'<per_pair_data type1="{first}" type2="{second}">')
            lines += _table("potential_pair", "r", "E", r, (1 + 0.1 * first) * np.exp(-r) * (r[-1] - r) ** 2)
            lines.append("</per_pair_data>")
    return "\n".join([*lines, "</Glue_params>"])


def _table(name, x, y, abscissae, ordinates, more=""):
    points = [f'<point {x}="{a!s}" {y}="{b!s}"/>' for a, b in zip(abscissae, ordinates, strict=True)]
    return [f'<{name} num_points="{len(points)}" {more}>', *points, f"</{name}>"]


def structures(numbers):
    """A random gas, a triclinic crystal, one atom in a small cell, a molecule in a box, a surface with vacuum."""
    rng = np.random.default_rng(5)
    crystal = make_frames(1, numbers=numbers, seed=11)[0]
    gas = Atoms(rng.choice(numbers, 12), cell=np.diag([7.0, 8.0, 7.5]) + 0.5 * rng.normal(size=(3, 3)), pbc=True)
    gas.set_scaled_positions((np.indices((2, 3, 2)).reshape(3, -1).T + 0.1 * rng.normal(size=(12, 3))) / [2, 3, 2])
    atom = bulk("X", "fcc", a=3.7)
    atom.numbers[:] = numbers[0]
    molecule = Atoms(rng.choice(numbers, 5), rng.normal(size=(5, 3)), cell=[30.0] * 3)
    molecule.positions += 2.0 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]]) + 15.0
    surface = fcc111("X", (2, 2, 3), a=3.7, vacuum=8.0)
    add_adsorbate(surface, "X", 2.0, "ontop")
    surface.numbers[:] = rng.choice(numbers, len(surface))
    surface.rattle(0.1, seed=1)
    return {"crystal": crystal, "gas": gas, "atom": atom, "molecule": molecule, "surface": surface}
