"""What may be wrong with a GAP potential is said in one line that names file, place, value and remedy."""

import hashlib
import re

import numpy as np
import pytest
from gap_files import glue_text, structures
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.descriptors.radial_basis import cosine_cutoff
from mlpot.errors import ModelFileError, UnsupportedPotentialError
from mlpot.interop.quip_text import Arguments

RADII = np.array([2.0, 3.0, 3.75])
SPARSE = 'n_sparseX="2" sparseX_filename="x1" sparseX_md5sum="MD5"'
HEAD = 'signal_mean="0.0" sparsified="T" n_permutations="1" signal_variance=".5"'
TEXT = f"""<GAP_made>
<Potential label="GAP_made" init_args="IP GAP label=GAP_made"/>
<GAP_params label="GAP_made" gap_version="1500000000">
  <GAP_data do_core="F"><e0 Z="14" value="-1.5D+000"/></GAP_data>
  <gpSparse label="GAP_made" n_coordinate="2" fitted="T">
    <gpCoordinates label="GAP_made1" dimensions="2" {HEAD} covariance_type="2" zeta="2.0" {SPARSE}>
      <descriptor>soap n_max=1 l_max=0 cutoff=3.0 atom_sigma=0.5 n_species=1 species_Z={{14 }} Z=14 zeta=2</descriptor>
      <permutation i="1">1 </permutation>
      <sparseX i="1" alpha="0.5" sparseCutoff="1.0"/>
      <sparseX i="2" alpha="-.25" sparseCutoff="1.0"/>
    </gpCoordinates>
    <gpCoordinates label="GAP_made2" dimensions="1" {HEAD} covariance_type="1" n_sparseX="3" sparseX_filename="x2">
      <theta> 1.25 </theta>
      <descriptor>distance_2b cutoff=4.0 cutoff_transition_width=1.0 Z1=14 Z2=14</descriptor>
      <permutation i="1">1 </permutation>
SPARSE
    </gpCoordinates>
  </gpSparse>
</GAP_params>
</GAP_made>
"""


@pytest.fixture
def gap(tmp_path):
    """Writes a small potential, text replaced in its XML, and reads it."""

    def make(*replacements):
        data = "1.0\n0.0\n1.0\n0.0\n"
        (tmp_path / "x1").write_text(data)
        (tmp_path / "x2").write_text("\n".join(map(str, RADII)))
        cutoffs = cosine_cutoff(RADII, 4.0, 1.0)[0]
        lines = [f'<sparseX i="{k + 1}" alpha="{k - 1}" sparseCutoff="{f!s}"/>' for k, f in enumerate(cutoffs)]
        text = TEXT.replace("MD5", hashlib.md5(data.encode()).hexdigest()).replace("SPARSE", "\n".join(lines))
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "gp.xml").write_text(text)
        return tmp_path / "gp.xml"

    return make


def test_the_potential_is_fine_before_it_is_broken(gap):
    model = mlpot.read_gap(gap())
    assert model.species == (14,) and model.n_sparse == 5 and model.cutoff == 4.0
    assert model.baseline.isolated_atom_energies == {14: -1.5}
    pair = model.terms[1]
    assert (set(pair.energy_scales), pair.length_scale) == ({1.0}, 1.25)
    np.testing.assert_array_equal(model.weights[2:], [-0.5, 0.0, 0.5])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("species_Z={14 } Z=14 ", "Z=14 "),
        ("species_Z={14 } Z=14 ", "species_Z=14 "),
        ("Z1=14 Z2=14", ""),
        (' zeta="2.0"', ""),
        ("IP GAP label=GAP_made", "IP GAP"),
        ("IP GAP label=GAP_made", "Sum init_args_pot1={IP GAP label=GAP_made}"),
        ('<Potential label="GAP_made" init_args="IP GAP label=GAP_made"/>', ""),
        ("<GAP_params", '<Potential label="core" init_args="IP Glue"/><GAP_params'),
        ('<GAP_data do_core="F"><e0 Z="14" value="-1.5D+000"/>', '<GAP_data e0="-1.5">'),
    ],
)
def test_other_ways_to_say_the_same(gap, old, new):
    atoms = structures((14,))["gas"]
    wanted = mlpot.read_gap(gap()).predict(atoms)
    more = [("<descriptor>soap", "<theta>2.0</theta><descriptor>soap")] if "zeta" in old else []
    np.testing.assert_array_equal(mlpot.read_gap(gap((old, new), *more)).predict(atoms).forces, wanted.forces)


UNSUPPORTED = {
    "soap_turbo": ("soap n_max", "soap_turbo n_max", "descriptor 'soap_turbo'"),
    "unknown key": ("l_max=0", "l_max=0 colour=red", "GAP_made1.*colour = 'red'.*does not know this option"),
    "n_exponents": ("Z2=14", "Z2=14 n_exponents=2", "GAP_made2.*n_exponents = '2': mlpot computes 1 only"),
    "only_intra": ("Z2=14", "Z2=14 only_intra=T", "only_intra = 'T'"),
    "average": ("l_max=0", "l_max=0 average=T", "average = 'T'"),
    "nu_R": ("l_max=0", "l_max=0 nu_R=1", "nu_r = '1'"),
    "other elements": ("species_Z={14 }", "species_Z={6}", "species_Z = '6', Z = '14'.*all elements of the potential, .6, 14."),
    "covariance": ('covariance_type="1"', 'covariance_type="4"', "covariance_type = 4"),
    "not sparse": ('sparsified="T"', 'sparsified="F"', "sparsified = F"),
    "permutations": ('n_permutations="1"', 'n_permutations="2"', "n_permutations = 2"),
    "old": ('gap_version="1500000000"', 'gap_version="1400000000"', r"gap_version = 1400000000.*sqrt\(2l \+ 1\)"),
    "no version": ('gap_version="1500000000"', "", "gap_version = 0"),
    "Lennard-Jones": ("IP GAP label=GAP_made", "Sum init_args_pot1={IP LJ} init_args_pot2={IP GAP}", "one IP Glue"),
    "not a GAP": ("IP GAP label=GAP_made", "IP SW", "IP SW.*one IP GAP"),
    "scaled": ("IP GAP label=GAP_made", "IP GAP label=GAP_made E_scale=2.0", "e_scale = '2.0'"),
    "two potentials": ("<GAP_params", "<Potential label=\"GAP_made\"/><GAP_params", "holds 2 potentials"),
    "width": ("cutoff_transition_width=1.0", "cutoff_transition_width=5.0", "cutoff_transition_width = 5.0 A"),
}  # fmt: skip
BROKEN = {
    "truncated": ("</GAP_made>", "", "not well-formed XML"),
    "no parameters": ("GAP_params", "GAP_other", "must hold one <GAP_params>"),
    "label": ("IP GAP label=GAP_made", "IP GAP label=elsewhere", "label 'elsewhere'"),
    "coordinate": ('n_coordinate="2"', 'n_coordinate="3"', "n_coordinate = 3.* 2 times"),
    "no descriptor": ("descriptor>", "description>", "holds no <descriptor>"),
    "empty descriptor": ("soap n_max=1", "n_max=1", "names no descriptor"),
    "braces": ("{14 }", "{14 ", "braces"),
    "the last of two counts": ("n_max=1", "n_max=1 n_max=2", "dimensions = 2, but the descriptor has 4"),
    "missing key": ("n_max=1", "", "n_max is missing"),
    "not a number": ("atom_sigma=0.5", "atom_sigma=half", "atom_sigma = 'half': must be a finite number"),
    "negative": ("atom_sigma=0.5", "atom_sigma=-0.5", "atom_sigma = '-0.5': must be positive"),
    "delta": (' signal_variance=".5"', ' signal_variance="0"', "signal_variance = '0': must be positive"),
    "no exponent": ('zeta="2.0"', 'zeta="0.0"', "zeta = '0.0': must be positive"),
    "sigma0": ("l_max=0", "l_max=0 covariance_sigma0=-1", "covariance_sigma0 = -1.0: must not be negative"),
    "another sigma0": ("l_max=0", "l_max=0 covariance_sigma0=0.1", "sparseX 1 ends with 0.0, not with covariance_sigma0 = 0.1"),
    "not an element": ("Z1=14", "Z1=-1", "Z1 = -1: must be an atomic number"),
    "n_max": ("n_max=1", "n_max=0", "n_max = '0': must be positive"),
    "not whole": ("l_max=0", "l_max=0.5", "l_max = '0.5': must be a whole number"),
    "not a flag": ("l_max=0", "l_max=0 central_reference_all_species=maybe", "must be T or F"),
    "n_species": ("n_species=1", "n_species=2", "n_species = 2"),
    "l_max": ("l_max=0", "l_max=99", "l_max = 99"),
    "dimensions": ('n_max=1', 'n_max=2', "dimensions = 2, but the descriptor has 4"),
    "attribute": (' n_sparseX="3"', "", "no attribute 'n_sparseX'"),
    "alpha": ('alpha="0.5"', 'alpha="?"', r"alpha = '\?'"),
    "n_sparseX beyond memory": ('n_sparseX="3"', f'n_sparseX="{10**19}"', "but <sparseX> stands 3 times"),
    "dimensions beyond memory": ('dimensions="1"', f'dimensions="{10**19}"', "holds 3 numbers"),
    "n_sparseX": ('n_sparseX="3"', 'n_sparseX="4"', "n_sparseX = 4 but <sparseX> stands 3 times"),
    "theta": ("1.25", "-1.25", r"theta = \[-1.25\]"),
    "no theta": ("theta>", "thetas>", r"theta = \[\]"),
    "zeta": (' zeta="2.0"', "", "neither zeta"),
    "cutoff": ("cutoff=4.0", "cutoff=4.1", "sparseCutoff = 0.14.* of sparseX 3"),
    "soap cutoff": ('alpha="0.5" sparseCutoff="1.0"', 'alpha="0.5" sparseCutoff="0.9"', "sparseCutoff = 0.9 of sparseX 1"),
    "no file": ('"x2"', '"x3"', "x3: cannot be read.*GAP_made2"),
    "other file": ('"x2"', '"x1"', "holds 4 numbers, not 3 sparse points times 1"),
    "e0": ('Z="14" value', 'Z="14" energy', "no attribute 'value'"),
    "core": ('do_core="F"', 'do_core="T"', "do_core = T"),
    "Glue missing": ("IP GAP label=GAP_made", "Sum init_args_pot1={IP Glue} init_args_pot2={IP GAP}", "must hold one <Glue_params>"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "old", "new", "message"),
    [(UnsupportedPotentialError, *case) for case in UNSUPPORTED.values()]
    + [(ModelFileError, *c) for c in BROKEN.values()],
    ids=[*UNSUPPORTED, *BROKEN],
)
def test_errors(gap, error, old, new, message):
    xml = gap((old, new))
    with pytest.raises(error, match=message) as caught:
        mlpot.read_gap(xml)
    assert type(caught.value) is error
    assert str(xml.parent) in str(caught.value) and "\n" not in str(caught.value)


def test_sparse_points_that_were_changed(gap):
    xml = gap()
    file = xml.with_name("x1")
    file.write_text("1.0\n0.0\n0.9\n0.1\n")
    with pytest.raises(ModelFileError, match=r"x1: has MD5 sum .* restore it"):
        mlpot.read_gap(xml)
    file.write_text("1.0\n0.0\n0.9\n")
    with pytest.raises(ModelFileError, match=r"x1: holds 3 numbers, not 2 sparse points times 2"):
        mlpot.read_gap(xml)
    xml.with_name("x2").write_text("2.0 3.0 3.7x")
    file.write_text("1.0\n0.0\n1.0\n0.0\n")
    with pytest.raises(ModelFileError, match=r"x2 = '3.7x': must be a finite number"):
        mlpot.read_gap(xml)


SUM = ("IP GAP label=GAP_made", "Sum init_args_pot1={IP Glue label=core} init_args_pot2={IP GAP label=GAP_made}")
GLUE_BROKEN = {
    "num_points": ('num_points="7"', 'num_points="8"', "num_points = 8 but 7"),
    "n_types": ('n_types="1"', 'n_types="2"', "n_types = 2 but .* 1 elements"),
    "order": ('r="1.8"', 'r="9.0"', "r does not increase"),
    "no table": ("potential_density", "potential", "holds no <potential_density>"),
    "no value": ('E="', 'F="', "no attribute 'E'"),
    "types": ('type1="1"', 'type1="3"', r"types are \[1\]"),
    "element": ('atomic_num="14"', 'atomic_num="6"', r"describes elements \[6\], GAP_params \[14\]"),
}


@pytest.mark.parametrize("case", GLUE_BROKEN.values(), ids=GLUE_BROKEN)
def test_broken_tables(gap, case):
    old, new, message = case
    text = glue_text((14,))
    assert old in text
    with pytest.raises(ModelFileError, match=message):
        mlpot.read_gap(gap(SUM, ("<GAP_params", text.replace(old, new) + "<GAP_params")))


def test_tables_of_neighbours_are_not_computed(gap):
    text = glue_text((14,)).replace("potential_density", "potential_neighbours")
    with pytest.raises(UnsupportedPotentialError, match="potential_neighbours"):
        mlpot.read_gap(gap(SUM, ("<GAP_params", text + "<GAP_params")))


def test_tables_come_back_bit_for_bit(gap, tmp_path):
    model = mlpot.read_gap(gap(SUM, ('do_core="F"', 'do_core="T"'), ("<GAP_params", glue_text((14,)) + "<GAP_params")))
    model.save(tmp_path / "m.h5")
    assert mlpot.load_model(tmp_path / "m.h5").baseline == model.baseline
    assert model.baseline.glue.cutoff == 3.9


def test_elements_must_be_named(gap):
    with pytest.raises(UnsupportedPotentialError, match="no descriptor names an element; add Z"):
        mlpot.read_gap(gap(("=14", "=0"), ("{14 }", "0")))


def test_command_line_says_it_in_one_line(gap, tmp_path):
    xml = gap(("soap n_max", "soap_turbo n_max"))
    result = CliRunner().invoke(app, ["import-gap", str(xml), "-o", str(tmp_path / "m.h5")])
    assert result.exit_code == 1 and len(re.findall("soap_turbo", result.output)) == 1
    assert not (tmp_path / "m.h5").exists()
    result = CliRunner().invoke(app, ["import-gap", str(gap()), "-o", str(tmp_path / "nowhere" / "m.h5")])
    assert result.exit_code == 2 and "nowhere" in result.output


def test_missing_file(tmp_path):
    with pytest.raises(ModelFileError, match=r"gp\.xml: cannot be read"):
        mlpot.read_gap(tmp_path / "gp.xml")


def test_argument_strings():
    found = Arguments.parse('Sum a={IP Glue label=x} B="two words"  c={{1 2}}', "here")
    assert found.words == ("Sum",)
    assert found.values == {"a": "IP Glue label=x", "b": "two words", "c": "{1 2}"}
