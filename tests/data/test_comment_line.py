"""Comment lines of extended XYZ as hands, shells and other programs write them: nothing is lost to a quote, a blank or a spelling."""

import numpy as np
import pytest

from mlpot.data.comment_line import comment_line
from mlpot.errors import DataError

CELL = "5 0 0 0 5 0 0 0 5"


@pytest.mark.parametrize("text", [
    'config_type="" energy=-1.5', "config_type='' energy=-1.5", "config_type={} energy=-1.5", "config_type=[]  energy=-1.5",
    'config_type = "" energy = -1.5', 'energy=-1.5 config_type=""',
])  # fmt: skip
def test_an_empty_value_takes_no_other_key(text):
    """ASE makes of the first config_type = "energy=-1.5", and has no energy."""
    values = comment_line(text)
    assert values == {"config_type": "", "energy": -1.5}


def test_what_lies_within_quotes_is_text():
    values = comment_line("""name="energy=3 Ha, it's" other='x = "" y' formula=a=b pbc="T T F" energy=-1.5 eV""")
    assert values["energy"] == -1.5 and values["name"] == "energy=3 Ha, it's" and values["other"] == 'x = "" y'
    assert values["formula"] == "a=b" and values["pbc"] == [True, True, False]
    assert comment_line("O'Brien's water") == {"OBriens": True, "water": True}  # a comment in words hides nothing


@pytest.mark.parametrize(("text", "match"), [
    ("name=O'Brien energy=-1.5", "\"name=O'Brien energy=-1.5\": the ' is not closed and hides what follows"),
    ('name="a energy=-1.5', 'the " is not closed'),
    ("name=it's energy=-1.5 b='x'", "the ' begins within a word and hides what follows"),
    ("name= energy=-1.5", 'name= has no value before "energy="; give it one, or write name=""'),
    ("energy=-1 500.5 n=3", "energy=-1 '500.5': a number in two parts"),
    ("REF_energy=-1.5 Hartree", "REF_energy=-1.5 'Hartree': labels are in eV"),
    ("energy=-1.5 kcal/mol, n=3", "'kcal/mol,': labels are in eV"),
    (f'lattice="{CELL}" energy=1', "lattice = .*: the format knows Lattice only; write Lattice="),
    (f'cell="{CELL}" energy=1', "cell = .* write Lattice="),
    (f'Lattice="{CELL}" PBC="T T F"', "PBC = .* write pbc="),
    ("properties=species:S:1:pos:R:3 energy=1", "properties = .* write Properties="),
    (f'Lattice="{CELL}" Lattice="{CELL.replace("5", "6")}"', "Lattice is there twice"),
    ("config_type=a config_type=b", "config_type is there twice"),
    ('stress="" energy=1', "stress = '': the stress must be 6"),
])  # fmt: skip
def test_what_ase_takes_for_something_else_is_refused(text, match):
    with pytest.raises(DataError, match=match):
        comment_line(text)


def test_names_like_those_of_the_format_may_be_used_beside_it():
    values = comment_line(f'Lattice="{CELL}" lattice=fcc cell=cubic properties="energy forces" pbc=T')
    np.testing.assert_array_equal(values["Lattice"], 5 * np.eye(3))
    assert (values["lattice"], values["cell"], values["properties"]) == ("fcc", "cubic", "energy forces")
