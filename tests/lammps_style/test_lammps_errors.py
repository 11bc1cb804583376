"""What pair_style mlpot refuses, and what it says."""

import pytest
from core_models import structures
from lammps_runs import begin, in_frame

STYLE, COEFF = "pair_style mlpot", "pair_coeff * * {model} C Si"


@pytest.fixture
def files(exported, tmp_path):
    """Model files, good and bad, by name."""
    from core_models import made

    content = bytearray(exported("two elements").read_bytes())
    made("two elements").export_core(tmp_path / "certain.mlpot", uncertainty=False)
    content[8] = 99
    (tmp_path / "newer.mlpot").write_bytes(content)
    (tmp_path / "short.mlpot").write_bytes(content[:50])
    names = {name: tmp_path / f"{name}.mlpot" for name in ("certain", "newer", "short", "absent")}
    return {"model": exported("two elements"), "gap": exported("three bodies"), "folder": tmp_path, **names}


@pytest.mark.parametrize(("lines", "match"), [
    ([f"{STYLE} uncertaint yes"], "unknown keyword uncertaint; there are 'uncertainty yes|no' and 'threads N'"),
    ([f"{STYLE} threads"], "threads needs a value"), ([f"{STYLE} threads 0"], "threads must be at least 1"),
    ([f"{STYLE} uncertainty maybe"], "instead of 'maybe'"),
    ([STYLE, "pair_coeff * * {model} Si"], "an element, or NULL, for each of the 2 atom types"),
    ([STYLE, "pair_coeff * * {model} C Ge"], "Ge of atom type 2 is not in the model, which knows C Si"),
    ([STYLE, "pair_coeff * * {model} C Silicon"], "Silicon of atom type 2 is not in the model"),
    ([STYLE, "pair_coeff * * {absent} C Si"], "absent.mlpot is not there; write it with 'mlpot export-lammps"),
    ([STYLE, "pair_coeff * * {folder} C Si"], "is a folder"),
    ([STYLE, "pair_coeff * * {newer} C Si"], "has format version 99, this core reads versions 2 to 3"),
    ([STYLE, "pair_coeff * * {short} C Si"], "short.mlpot"),
    ([STYLE, "pair_coeff * * {model} NULL Si", "run 0"], "1      1: is not set"),
    ([f"{STYLE} uncertainty yes", "pair_coeff * * {certain} C Si", "run 0"], "exported without uncertainty"),
    ([STYLE, "pair_coeff * * {certain} C Si", "fix s all pair 1 mlpot sigma 1", "run 0"], "exported without uncertainty"),
    ([STYLE, COEFF, "fix s all pair 1 mlpot sigma 0", "run 0"], "cannot extract property sigma"),
    ([STYLE, "pair_coeff * * {gap} C Si", "fix s all pair 1 mlpot sigma 1", "run 0"], "cannot extract property sigma"),
    ([STYLE, COEFF, "set atom 1*2 x 0.1 y 0 z 0", "run 0"], "step 0: .*atoms are 0 A apart"),
    ([STYLE, COEFF, "comm_style tiled", "change_box all x final 0 3 remap", "run 0"], "cannot exceed periodic box length"),
])  # fmt: skip
def test_what_is_refused(engine, files, tmp_path, lines, match):
    begin(engine, in_frame(structures((6, 14))["crystal"]), tmp_path)
    *before, last = [line.format(**files) for line in lines]
    for line in before:
        engine.command(line)
    with pytest.raises(Exception, match=match):
        engine.command(last)


@pytest.mark.parametrize(("before", "units", "match"), [
    ((), "lj", "needs units metal or real, not lj"), (("newton off",), "metal", "needs newton on"),
])  # fmt: skip
def test_settings_of_lammps_that_are_refused(engine, files, tmp_path, before, units, match):
    begin(engine, in_frame(structures((6, 14))["crystal"]), tmp_path, *before, units=units)
    for line in (STYLE, COEFF.format(**files)):
        engine.command(line)
    with pytest.raises(Exception, match=match):
        engine.command("run 0")


def test_bonds_that_hide_neighbours(engine, files, tmp_path):
    for line in (
        "units metal", "atom_style bond", "region r block 0 9 0 9 0 9", "create_box 2 r bond/types 1 extra/bond/per/atom 1 "
        "extra/special/per/atom 1", "create_atoms 1 single 1 1 1", "create_atoms 2 single 2.5 1 1", "mass * 12",
        "create_bonds single/bond 1 1 2", "bond_style zero", "bond_coeff *", STYLE, COEFF.format(**files),
    ):  # fmt: skip
        engine.command(line)
    with pytest.raises(Exception, match=r"set 'special_bonds lj/coul 1.0 1.0 1.0'"):
        engine.command("run 0")
    engine.command("special_bonds lj/coul 1.0 1.0 1.0")
    engine.command("run 0")
