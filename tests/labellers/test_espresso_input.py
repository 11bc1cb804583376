"""Input files of pw.x: what a user writes is in them, or is refused by name."""

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlpot.errors import ConfigError
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.espresso import espresso
from mlpot.labellers.espresso_input import input_text

UPF = '<UPF version="2.0.1">\n<PP_HEADER z_valence="{}"/>\n'


@pytest.fixture
def parameters(tmp_path):
    for symbol, valence in (("Fe", "8.0"), ("O", "6.0E+00"), ("Si", "4.0")):
        (tmp_path / f"{symbol}.UPF").write_text(UPF.format(valence))
    return {
        "pseudo_dir": str(tmp_path),
        "pseudopotentials": {"Fe": "Fe.UPF", "O": "O.UPF"},
        "kpts": [2, 2, 2],
        "command": "true",
        "input_data": {"ecutwfc": 30},
    }


def oxide(moments=None):
    """Oxygen comes first in the structure, iron in the pseudopotentials."""
    atoms = Atoms("O2Fe2", np.arange(12.0).reshape(4, 3), cell=[9, 9, 9], pbc=True)
    if moments is not None:
        atoms.set_initial_magnetic_moments(moments)
    return atoms


def written(parameters, atoms, **data):
    calculator = espresso(**{**parameters, "input_data": {**parameters["input_data"], **data}})
    return input_text(atoms, calculator.template.setup)


def keys(text):
    """What stands in the namelists."""
    return dict(re.findall(r"^ {2}(\S+) = (.*)$", text, re.MULTILINE))


GIVEN = {
    "Hubbard_U(1)": 4.6, "lda_plus_u": True, "lda_plus_u_kind": 0, "U_projection_type": "ortho-atomic", "Hubbard_J(2,2)": 0.5,
    "starting_ns_eigenvalue(3,2,1)": 1.0, "starting_magnetization(1)": 0.4, "nspin": 2, "vdw_corr": "dft-d3", "dftd3_version": 4,
    "dftd3_threebody": False, "conv_thr": 1e-9, "mixing_mode": "local-TF", "occupations": "smearing", "degauss": 0.01,
    "tot_magnetization": -1, "assume_isolated": "it's", "fixed_magnetization(3)": 0.1, "nr1": 24,
}  # fmt: skip


def test_everything_that_is_said_is_written(parameters):
    found = keys(written(parameters, oxide(), **GIVEN))
    for key, value in GIVEN.items():
        expected = {"True": ".true.", "False": ".false.", "it's": "'it''s'"}.get(str(value), repr(value))
        assert found[key.lower()] == expected, key


def test_what_counts_species_counts_pseudopotentials_in_every_structure(parameters):
    text = written(parameters, oxide(), **{"Hubbard_U(1)": 4.6, "Hubbard_U(2)": 2.0})
    assert re.search(r"ATOMIC_SPECIES\nFe \S+ Fe.UPF\nO \S+ O.UPF\n", text)
    assert keys(text)["hubbard_u(1)"] == "4.6"
    only_oxygen = oxide()[:2]
    found = keys(written(parameters, only_oxygen, **{"Hubbard_U(1)": 4.6, "Hubbard_U(2)": 2.0}))
    assert found["hubbard_u(1)"] == "2.0" and "hubbard_u(2)" not in found and found["ntyp"] == "1"
    assert keys(written(parameters, oxide(), Hubbard_U={"O": 2.0}))["hubbard_u(2)"] == "2.0"


def test_moments_of_the_structure_split_species(parameters):
    text = written(parameters, oxide([0, 0, 4.0, -2.0]), nspin=2, lda_plus_u=True, Hubbard_U={"Fe": 3.0})
    found = keys(text)
    assert re.search(r"Fe \S+ Fe.UPF\nFe1 \S+ Fe.UPF\nO \S+ O.UPF\n", text)
    assert re.search(r"\nO 0.0\S* .*\nO .*\nFe .*\nFe1 .*\n", text)
    assert [float(found[f"starting_magnetization({k})"]) for k in (1, 2, 3)] == [0.5, -0.25, 0.0]
    assert found["hubbard_u(1)"] == found["hubbard_u(2)"] == "3.0" and "hubbard_u(3)" not in found


def test_the_card_of_hubbard_parameters(parameters):
    card = {"projectors": "ortho-atomic", "lines": ["U Fe-3d 4.6", "J0 Fe-3d 1.0", "U O-2p 1.5"]}
    text = written({**parameters, "hubbard": card}, oxide([0, 0, 4.0, -2.0]), nspin=2)
    wanted = "HUBBARD {ortho-atomic}\nU Fe-3d 4.6\nU Fe1-3d 4.6\nJ0 Fe-3d 1.0\nJ0 Fe1-3d 1.0\nU O-2p 1.5\n"
    assert text.endswith(wanted)
    assert written({**parameters, "hubbard": card}, oxide()[:2]).endswith("HUBBARD {ortho-atomic}\nU O-2p 1.5\n")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"ecutwcf": 30}, "ecutwcf: unknown key; did you mean 'ecutwfc'"),
        ({"lda_plus_U_knd": 0}, "did you mean 'lda_plus_u_kind'"),
        ({"electrons": {"mixing_bta": 0.3}}, "mixing_bta: unknown key; did you mean 'mixing_beta'"),
        ({"system": {"mixing_beta": 0.3}}, "belongs to the namelist ELECTRONS, not to SYSTEM"),
        ({"electrons": {"mixing_beta": 0.3}, "Mixing_Beta": 0.7}, "is given twice"),
        ({"nat": 3}, "nat: cannot be set; the atoms are taken from the structure"),
        ({"outdir": "/scratch"}, "outdir: cannot be set"),
        ({"ion_dynamics": "bfgs"}, "IONS, which pw.x does not read"),
        ({"Hubbard_U": 4.6}, "needs an index or a table by symbol"),
        ({"Hubbard_U(3)": 4.6}, "its index must refer to one of the 2 pseudopotentials: Fe, O"),
        ({"Hubbard_U": {"Ni": 4.6}}, r"Hubbard_U\.Ni: no pseudopotential for this symbol"),
        ({"degauss": {"Fe": 1.0}}, "must be one value"),
        ({"smearing": "mv'\n/"}, "a string of one line"),
        ({"degauss": [0.1]}, "true, false, a number, or a string"),
        ({"degauss": float("nan")}, "true, false, a number, or a string"),
        ({"calculation": "relax"}, "calculation = 'relax'"),
    ],
)
def test_what_pw_would_not_get_is_refused_by_name(parameters, data, words):
    parameters["input_data"] |= data
    with pytest.raises(ConfigError, match=words):
        CalculatorLabeller("mlpot.labellers.espresso:espresso", parameters).check()


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"lines": ["U Ni-3d 4.6"]}, "Ni-3d"),
        ({"lines": ["U Fe-3d"]}, 'must be like "U Fe-3d 4.6"'),
        ({"lines": ["U Fe-3d much"]}, "much"),
        ({"lines": []}, "lines: missing"),
        ({"lnies": []}, "did you mean 'lines'"),
        ({"projectors": "ortho}\n", "lines": ["U Fe-3d 4.6"]}, "projectors"),
    ],
)
def test_a_wrong_card_names_its_line(parameters, card, words):
    with pytest.raises(ConfigError, match=words):
        espresso(**parameters, hubbard=card)


@pytest.mark.parametrize(
    ("atoms", "data", "words"),
    [
        (oxide(), {"nspin": 2}, "nspin = 2: needs initial spins"),
        (oxide(), {"nspin": 2, "starting_magnetization": {"Fe": 0.0}}, "needs initial spins"),
        (oxide([0, 0, 4, -4]), {}, "the structure has magnetic moments; add nspin = 2"),
        (oxide([0, 0, 4, -4]), {"nspin": 2, "starting_magnetization(1)": 0.3}, "magnetic moments as well"),
        (oxide([1, 1, 4, -4]), {"nspin": 1}, "add nspin = 2"),
        (Atoms("Ni", cell=[5, 5, 5]), {}, "pseudopotentials.Ni: missing"),
        (Atoms("Fe"), {}, "needs a cell"),
    ],
)
def test_what_does_not_fit_the_structure(parameters, atoms, data, words):
    with pytest.raises(ConfigError, match=words):
        written(parameters, atoms, **data)


def test_a_potential_that_does_not_say_its_valence_electrons(parameters):
    Path(parameters["pseudo_dir"], "Fe.UPF").write_text("old")
    with pytest.raises(ConfigError, match="does not state the number of valence electrons"):
        written(parameters, oxide([0, 0, 1, 1]), nspin=2)


def test_no_density_for_who_says_how_to_start(parameters):
    parameters["input_data"]["startingpot"] = "atomic"
    with pytest.raises(ConfigError, match="excludes input_data"):
        espresso(**parameters, density_dir="/tmp")
    with pytest.raises(ConfigError, match="must be an absolute path"):
        espresso(**parameters, density_dir="densities")
