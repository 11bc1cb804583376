"""i-PI's own input as the drivers and templates read it: addresses, batches, beads, temperature, structure, and what does not fit."""

import re
import tomllib

import ase.io
import numpy as np
import pytest
from ase import Atoms
from typer.testing import CliRunner

from mlpot.commands.main import app
from mlpot.drivers.ipi_input import read_ipi_input
from mlpot.errors import ConfigError, DataError, MlpotError
from mlpot.settings.files import DriverFile
from mlpot.structures import read_structures
from mlpot.units import BOHR

SOCKET = "<ffsocket name='f' mode='unix'><address> own </address></ffsocket>"
XML = """<simulation><output prefix='o'><trajectory filename='x' extra_type='{extra}'> extras </trajectory></output>
{sockets}
{system}
</simulation>"""
SYSTEM = """<system>
<initialize nbeads='{beads}'>{start}<velocities mode='thermal' units='kelvin'> 300 </velocities></initialize>
<forces><force forcefield='f'/></forces>
<motion mode='dynamics'><dynamics mode='{mode}'/></motion>
<ensemble><temperature units='{unit}'> {temperature} </temperature></ensemble>
</system>"""
WATER = "3\n# CELL(abcABC): 10 11 12 90 90 90{}\nO 0 0 0\nH 1 1 0\nH 1 -1 0\n"


@pytest.fixture
def work(tmp_path):
    (tmp_path / "init.xyz").write_text(WATER.format(""))
    return tmp_path


def write(work, sockets=SOCKET, extra="energy_uncertainty", system=SYSTEM, **values):
    own = {
        "beads": 1,
        "mode": "nvt",
        "unit": "kelvin",
        "temperature": 300,
        "start": "<file mode='xyz'> init.xyz </file>",
    }
    (work / "input.xml").write_text(XML.format(sockets=sockets, extra=extra, system=system.format(**{**own, **values})))
    return read_ipi_input(work / "input.xml")


def test_what_is_read(work):
    told = write(work, beads=8)
    socket = told.socket()
    assert (told.beads, told.n_systems, told.temperature, told.moves_cell) == (8, 1, 300.0, False)
    assert (socket.name, socket.batch_size, str(socket.where("input.xml"))) == ("f", 1, "/tmp/ipi_own")
    atoms = told.structure()
    assert list(atoms.symbols) == ["O", "H", "H"] and atoms.pbc.all()
    assert atoms.cell.lengths() == pytest.approx(BOHR * np.array([10, 11, 12]))
    assert write(work, mode="npt").moves_cell


def test_defaults_are_those_of_i_pi(work):
    (socket,) = write(work, sockets="<ffsocket name='f'/>").sockets
    assert str(socket.where("")) == "localhost:65535" and socket.batch_size == 1
    assert write(work, unit="atomic_unit", temperature=9.5e-4).temperature == pytest.approx(300, rel=1e-3)


@pytest.mark.parametrize(
    ("start", "factor"),
    [
        ("<file mode='xyz' units='angstrom' cell_units='angstrom'> init.xyz </file>", 1.0),
        ("<file mode='xyz'> init.xyz </file>", BOHR),
        ("<positions mode='xyz'> init.xyz </positions>", BOHR),
        ("<file mode='xyz'> init.xyz </file><cell mode='abc' units='angstrom'> [ 10, 11, 12 ] </cell>", None),
        (
            "<file mode='xyz'> init.xyz </file><cell mode='manual' units='angstrom'> [10,0,0, 0,11,0, 0,0,12] </cell>",
            None,
        ),
    ],
)
def test_units_of_the_start(work, start, factor):
    atoms = write(work, start=start).structure()
    assert atoms.positions[1, 0] == pytest.approx(factor or BOHR)
    assert atoms.cell.lengths() == pytest.approx((factor or 1.0) * np.array([10, 11, 12]))


def test_systems_made_of_a_template(work):
    template = f"""<system_template><labels> [ TEMP, FILE ] </labels>
    <instance> [ 310, init.xyz ] </instance><instance> [ 400, init.xyz ] </instance>
    <template>{SYSTEM.replace("{beads}", "4")}</template></system_template>"""
    told = write(work, system=template, temperature="TEMP", start="<file mode='xyz'> FILE </file>")
    assert (told.n_systems, told.beads, told.temperature, len(told.structure())) == (2, 4, 310.0, 3)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sockets": ""}, "has no <ffsocket>"),
        (
            {"sockets": SOCKET + SOCKET.replace("'f'", "'g'")},
            "several <ffsocket>: f, g; say which one with --forcefield",
        ),
        ({"sockets": SOCKET.replace("unix", "shm")}, "mode='shm'> is not spoken here"),
        (
            {"sockets": "<ffsocket name='f'><port> many </port></ffsocket>"},
            "<port> of f = 'many': must be a positive integer",
        ),
        ({"beads": "-3"}, "nbeads = '-3'"),
        ({"temperature": "warm"}, "<temperature>: 1 finite numbers are needed"),
        ({"unit": "celsius"}, "'celsius'"),
        ({"start": ""}, "names no structure file; give it as --template"),
        ({"start": "<file mode='chk'> RESTART </file>"}, "<file mode='chk'>, which only i-PI reads"),
        ({"start": "<file mode='xyz'> no.xyz </file>"}, "no.xyz: cannot be read as i-PI's xyz"),
        ({"start": "<file mode='xyz'> init.xyz </file><cell mode='abc'> [ 1, 2 ] </cell>"}, "<cell>: 3 finite numbers"),
    ],
)
def test_what_cannot_be_is_one_line(work, change, problem):
    with pytest.raises((ConfigError, DataError), match=re.escape(problem)) as error:
        told = write(work, **change)
        told.socket().where("input.xml")
        told.structure()
    assert "\n" not in str(error.value)


def test_damaged_files_are_one_line(work):
    """Bytes changed anywhere, in the input and in the structure: an error of ours, or an answer."""
    write(work, beads=8)
    rng = np.random.default_rng(0)
    for name in ("input.xml", "init.xyz"):
        good = (work / name).read_bytes()
        for _ in range(300):
            bad = bytearray(good)
            for at in rng.integers(len(bad), size=rng.integers(1, 4)):
                bad[at] = rng.choice(np.frombuffer(b"0<>/'9 \xb2\n-eE&;\x00a", np.uint8))
            (work / name).write_bytes(bytes(bad))
            try:
                told = read_ipi_input(work / "input.xml")
                told.socket().where("input.xml")
                told.check(told.structure(), told.socket())
            except MlpotError as error:
                assert len(str(error).splitlines()) == 1
        (work / name).write_bytes(good)


@pytest.mark.parametrize("text", ["", "<simulation>", "<holder></holder>", "\x00"])
def test_other_files(work, text):
    (work / "input.xml").write_text(text)
    with pytest.raises(ConfigError, match=r"input\.xml: .*give the file that i-pi is started with"):
        read_ipi_input(work / "input.xml")


def test_what_does_not_fit_the_template(work):
    told = write(work)
    other = told.structure()[[1, 0, 2]]
    with pytest.raises(ConfigError, match=r"i-PI starts from OH2 \(3 atoms\), the template is HOH \(3 atoms\)"):
        told.check(other, told.socket())
    alone = told.structure()
    alone.pbc = False
    told.check(alone, told.socket())
    with pytest.raises(ConfigError, match="its cell moves, and the template is not periodic"):
        write(work, mode="npt").check(alone, told.socket())


def test_a_committee_that_reads_members(work):
    committee = f"<ffcommittee name='c'><parse_json> True </parse_json>{SOCKET}</ffcommittee>"
    told = write(work, sockets=committee)
    with pytest.raises(ConfigError, match="--committee members"):
        told.check(told.structure(), told.socket())
    told.check(told.structure(), told.socket(), "std")
    beside = SOCKET.replace("'f'", "'base'")
    told = write(work, sockets=committee.replace("<ffsocket", f"<baseline_name> base </baseline_name>{beside}<ffsocket"))
    assert {socket.name: socket.reads_members for socket in told.sockets} == {"base": False, "f": True}


def test_hints(work):
    batched = "<ffsocket name='f' mode='unix'><address>own</address><batch_size>{}</batch_size></ffsocket>"
    for sockets, extra, words in (
        (SOCKET, "n_labelled", "<batch_size>8</batch_size>"),
        (batched.format(3), "n_labelled", "does not divide the 8 structures"),
        (batched.format(8), "quadrupole, learned", "extra_type has quadrupole, which the driver does not send"),
    ):
        told = write(work, sockets=sockets, extra=extra, beads=8)
        (hint,) = told.hints(told.socket())
        assert words in hint
    told = write(work, sockets=batched.format(8), beads=8)
    assert told.hints(told.socket()) == []


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_configuration_for_an_input_that_is_there(work):
    """Address, temperature and structure are those of the input; the structure is in angstrom."""
    told = write(work, beads=8)
    result = run("template", "ipi", "--input", work / "input.xml")
    assert result.exit_code == 0, result.output
    settings = DriverFile.model_validate(tomllib.loads((work / "learn.toml").read_text()))
    assert (settings.driver.unix, settings.driver.temperature_K) == ("own", 300.0)
    (atoms,) = read_structures(work / settings.structure.file)
    np.testing.assert_allclose(atoms.positions, told.structure().positions, atol=1e-7)
    again = run("template", "ipi", "--input", work / "input.xml")
    assert again.exit_code == 2 and "there already" in again.output


def test_over_tcp_too(work):
    write(work, sockets="<ffsocket name='f'><address>node1</address><port>4000</port></ffsocket>")
    assert run("template", "ipi", "--input", work / "input.xml").exit_code == 0
    driver = DriverFile.model_validate(tomllib.loads((work / "learn.toml").read_text())).driver
    assert (driver.unix, driver.host, driver.port) == (None, "node1", 4000)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("learn", "--input", "input.xml"), "--input: only for `mlpot template ipi`"),
        (("ipi",), "give a structure file or, for ipi, an input"),
        (("ipi", "init.xyz", "--input", "input.xml"), "not both"),
        (("ipi", "--input", "input.xml", "--beads", "4"), "--beads, --temperature: given by"),
    ],
)
def test_options_that_contradict_each_other(work, monkeypatch, words, problem):
    monkeypatch.chdir(work)
    write(work)
    result = run("template", *words)
    assert result.exit_code == 2 and problem in " ".join(result.output.split())


def test_a_driver_takes_all_from_the_input(work, two_species_model, monkeypatch):
    """Elements that the model has not, atoms in another order, and an address where nobody is."""
    monkeypatch.chdir(work)
    two_species_model.save("model.h5")
    write(work, sockets=SOCKET.replace("own", f"none_{work.name}"))
    result = run("driver", "model.h5", "--input", "input.xml", "--patience", 0)
    assert result.exit_code != 0 and "element" in result.output.lower()
    (work / "init.xyz").write_text("2\n# CELL(abcABC): 8 8 8 90 90 90\nC 0 0 0\nSi 3 0 0\n")
    result = run("driver", "model.h5", "--input", "input.xml", "--patience", 0)
    assert result.exit_code != 0 and f"/tmp/ipi_none_{work.name}: no server for 0 s" in result.output
    ase.io.write("other.xyz", Atoms("SiC", positions=[[0, 0, 0], [1.5, 0, 0]]))
    result = run("driver", "model.h5", "--input", "input.xml", "--template", "other.xyz", "--patience", 0)
    assert result.exit_code == 2 and "the template is SiC" in result.output
    result = run("driver", "model.h5", "--forcefield", "f", "--template", "other.xyz")
    assert result.exit_code == 2 and "give both" in result.output


def test_a_learning_driver_is_held_against_the_input(work, monkeypatch):
    monkeypatch.chdir(work)
    write(work, beads=8)
    assert run("template", "ipi", "--input", "input.xml").exit_code == 0
    write(work, sockets=SOCKET.replace("own", "another"))
    result = run("driver", "learn.toml", "--input", "input.xml")
    assert result.exit_code == 2
    assert "connects to /tmp/ipi_own, but input.xml listens at /tmp/ipi_another" in " ".join(result.output.split())
