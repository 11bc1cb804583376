"""The codec and state machine of i-PI's protocol: no socket, no process."""

import itertools
import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpot.drivers import ipi_protocol
from mlpot.drivers.ipi_protocol import Evaluation, Exit, GetForce, Init, Positions, Session, Status, to_angstrom
from mlpot.errors import EvaluationError, ProtocolError
from mlpot.units import BOHR, HARTREE

TEMPLATE = bulk("Si", cubic=True)
N = len(TEMPLATE)


def header(name):
    return name.encode().ljust(12)


def init(text, bead=0):
    return header("INIT") + np.int32([bead, len(text)]).tobytes() + text.encode()


def cells(cell):
    """The cell and its inverse as i-PI sends them: columns are vectors."""
    return (cell.T / BOHR).tobytes() + (np.linalg.pinv(cell).T * BOHR).tobytes()


def posdata(structures, n_atoms=None):
    """One structure as it is, several as a batch."""
    count = np.int32(len(structures[0]) if n_atoms is None else n_atoms).tobytes()
    boxes = b"".join(cells(atoms.cell.array) for atoms in structures)
    positions = b"".join((atoms.positions / BOHR).tobytes() for atoms in structures)
    return header("POSDATA") + (count + boxes if len(structures) > 1 else boxes + count) + positions


def beads(n, seed=0):
    found = [TEMPLATE.copy() for _ in range(n)]
    for k, atoms in enumerate(found):
        atoms.rattle(0.1, seed=seed + k)
        atoms.set_cell(atoms.cell.array + np.triu(0.1 * np.random.default_rng(seed + k).random((3, 3))))
    return found


def evaluation(seed=0, **extras):
    rng = np.random.default_rng(seed)
    return Evaluation(rng.normal(), rng.normal(size=(N, 3)), rng.normal(size=(3, 3)), extras)


def session(text=""):
    own = Session(TEMPLATE)
    own.receive(header("STATUS") + init(text) + header("STATUS"))
    return own


def split(data, places):
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(ends)]


TURN = [header("STATUS"), posdata(beads(3, seed=5)), header("GETFORCE"), header("EXIT")]
CONVERSATION = b"".join(
    [
        header("STATUS"),
        init(" cutoff : 3.5 , name:x,  batch_size:3", bead=7),
        header("STATUS"),
        posdata(beads(3)),
        header("GETFORCE"),
        *TURN,
    ]
)


def decoded(pieces):
    own = Session(TEMPLATE)
    return [message for piece in pieces for message in own.receive(piece)]


@given(st.lists(st.integers(0, 10**6), max_size=30))
@settings(max_examples=100, deadline=None)
def test_any_split_of_the_stream_means_the_same(places):
    found = decoded(split(CONVERSATION, places))
    kinds = [Status, Init, Status, Positions, GetForce, Status, Positions, GetForce, Exit]
    assert [type(message) for message in found] == kinds
    assert found[1].bead == 7 and found[1].batch_size == 3
    assert found[1].options == {"cutoff": "3.5", "name": "x", "batch_size": "3"}
    for message, structures in zip((found[3], found[6]), (beads(3), beads(3, seed=5)), strict=True):
        assert message.n_beads == message.n_distinct == 3
        np.testing.assert_allclose(message.positions, [atoms.positions for atoms in structures], atol=1e-13)
        np.testing.assert_allclose(message.cells, [atoms.cell.array for atoms in structures], atol=1e-13)


def test_byte_by_byte():
    assert len(decoded([CONVERSATION[k : k + 1] for k in range(len(CONVERSATION))])) == 9


@given(st.integers(0, len(CONVERSATION) - 1))
@settings(max_examples=100, deadline=None)
def test_a_stream_that_stops_gives_what_was_complete(place):
    own = Session(TEMPLATE)
    complete = len(own.receive(CONVERSATION[:place]))
    rest = own.receive(CONVERSATION[place:])
    assert complete + len(rest) == 9
    assert own.unfinished == ""


def test_it_says_what_is_missing():
    own = session()
    assert own.unfinished == ""
    own.receive(b"POS")
    assert own.unfinished == "a header"
    own.receive(b"DATA     ")
    assert own.unfinished == "the cell"
    own.receive(posdata(beads(1))[12:-1])
    assert own.unfinished == "positions"


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
@settings(max_examples=300, deadline=None)
def test_garbage_is_an_error_or_incomplete(data, places):
    own = session()
    try:
        for piece in split(data, places):
            own.receive(piece)
    except ProtocolError as error:
        with pytest.raises(ProtocolError) as again:
            own.receive(header("STATUS"))
        assert again.value is error
    else:
        assert len(data) < 12 or own.unfinished


@given(st.sampled_from(["STATUS", "INIT", "POSDATA", "GETFORCE", "EXIT"]), st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_garbage_after_a_header(name, data):
    own = session("batch_size:2")
    try:
        own.receive(header(name) + data)
    except ProtocolError as error:
        assert len(str(error)) > 20
    assert own._wanted < 10**5


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GET / HTTP/1.1\r\n", "unknown header b'GET / HTTP/1'"),
        (header("posdata"), "unknown header"),
        (header("GETFORCE"), "GETFORCE came before POSDATA"),
        (header("INIT") + np.int32([0, -1]).tobytes(), "text of -1 bytes"),
        (header("INIT") + np.int32([0, 2**31 - 1]).tobytes(), "text of 2147483647 bytes"),
        (init("batch_size:0"), "batch_size = '0'"),
        (init("batch_size:-3"), "batch_size = '-3'"),
        (init("batch_size:many"), "batch_size = 'many'"),
        (init("batch_size:99999999999999999999"), "batch_size = '99999999999999999999'"),
        (init("batch_size:2000000000"), "lower <batch_size>"),
        (posdata(beads(1), n_atoms=7), "the server has 7 atoms, the template 8"),
        (posdata(beads(1), n_atoms=-1), "the server has -1 atoms"),
        (posdata(beads(1), n_atoms=2**31 - 1), "the server has 2147483647 atoms"),
    ],
)
def test_what_is_wrong_is_said(data, says):
    with pytest.raises(ProtocolError, match=says.replace("(", r"\(")):
        session().receive(data)


def test_counts_of_batches_are_checked_before_their_data():
    own = session("batch_size:4")
    with pytest.raises(ProtocolError, match="the server has 2147483647 atoms"):
        own.receive(header("POSDATA") + np.int32(2**31 - 1).tobytes())


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("what", ["positions", "cell"])
def test_numbers_that_are_not_finite(value, what):
    atoms = TEMPLATE.copy()
    if what == "cell":
        atoms.cell[1, 2] = value
        data = posdata([TEMPLATE]).replace(cells(TEMPLATE.cell.array)[:72], (atoms.cell.array.T / BOHR).tobytes())
    else:
        atoms.positions[3, 1] = value
        data = posdata([atoms])
    with pytest.raises(ProtocolError, match=f"{what} of structure 0 is not finite"):
        session().receive(data)


def test_a_cell_without_volume_is_for_molecules_only():
    flat = TEMPLATE.copy()
    flat.set_cell([[5, 0, 0], [5, 0, 0], [0, 0, 5]])
    with pytest.raises(ProtocolError, match="has no volume"):
        session().receive(posdata([flat]))
    molecule = Atoms("H2O", positions=np.eye(3))
    own = Session(molecule)
    assert len(own.receive(posdata([molecule]) + header("GETFORCE"))) == 2


def test_copies_that_fill_a_batch_are_not_distinct():
    a, b = beads(2)
    own = session("batch_size:4")
    assert own.receive(posdata([a, b, b, b]))[0].n_distinct == 2
    assert own.receive(posdata([a, a, a, a]))[0].n_distinct == 1
    assert own.receive(posdata([b, b, a, b]))[0].n_distinct == 4
    other_cell = b.copy()
    other_cell.set_cell(b.cell.array * 1.01)
    assert own.receive(posdata([a, a, b, other_cell]))[0].n_distinct == 4


def test_statuses():
    own = Session(TEMPLATE)
    assert own.status() == header("NEEDINIT")
    own.receive(init(""))
    assert own.status() == header("READY")
    own.receive(posdata(beads(1)) + header("STATUS"))
    own.deliver([evaluation()])
    assert own.status() == header("HAVEDATA")
    own.forces()
    assert own.status() == header("READY")
    with pytest.raises(EvaluationError):
        own.forces()


def test_the_answer_to_one_structure():
    own, e = session(), evaluation(4, energy_uncertainty=0.5, name="é")
    own.receive(posdata(beads(1)))
    own.deliver([e])
    answer = own.forces()
    assert answer[:12] == header("FORCEREADY")
    assert np.frombuffer(answer[12:20])[0] == pytest.approx(e.energy / HARTREE, rel=1e-15)
    assert np.frombuffer(answer[20:24], np.int32)[0] == N
    np.testing.assert_allclose(
        np.frombuffer(answer[24 : 24 + 24 * N]).reshape(N, 3), e.forces * BOHR / HARTREE, rtol=1e-14
    )
    rest = answer[24 + 24 * N :]
    virial = np.frombuffer(rest[:72]).reshape(3, 3)
    np.testing.assert_allclose(virial, (e.virial + e.virial.T) / 2 / HARTREE, rtol=1e-14)
    assert np.frombuffer(rest[72:76], np.int32)[0] == len(rest[76:])
    assert json.loads(rest[76:].decode("ascii")) == {"energy_uncertainty": 0.5, "name": "é"}


def test_the_answer_to_a_batch():
    a, b = beads(2)
    own, handed = session("batch_size:3"), [evaluation(1, k=1), evaluation(2, k=22)]
    own.receive(posdata([a, b, b]))
    own.deliver(handed)
    answer = own.forces()[12:]
    expected = [handed[0], handed[1], handed[1]]
    np.testing.assert_allclose(np.frombuffer(answer[:24]), [e.energy / HARTREE for e in expected], rtol=1e-14)
    assert np.frombuffer(answer[24:28], np.int32)[0] == N
    forces = np.frombuffer(answer[28 : 28 + 72 * N]).reshape(3, N, 3)
    np.testing.assert_allclose(forces, [e.forces * BOHR / HARTREE for e in expected], rtol=1e-14)
    rest = answer[28 + 72 * N + 216 :]
    for e in expected:
        n = int(np.frombuffer(rest[:4], np.int32)[0])
        assert json.loads(rest[4 : 4 + n]) == e.extras
        rest = rest[4 + n :]
    assert not rest


def test_forces_may_be_stored_in_any_order():
    own, e = session(), evaluation()
    answers = []
    for forces in (e.forces, np.asfortranarray(e.forces), e.forces.astype(">f8")):
        own.receive(posdata(beads(1)))
        own.deliver([Evaluation(e.energy, forces, e.virial)])
        answers.append(own.forces())
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"energy": np.nan}, "energy"),
        ({"forces": np.full((N, 3), np.inf)}, "forces"),
        ({"virial": np.diag([0, np.nan, 0])}, r"virial .*1 of 9"),
        ({"forces": np.zeros((N - 1, 3))}, r"forces of shape \(7, 3\)"),
        ({"virial": np.zeros(6)}, r"virial of shape \(6,\)"),
    ],
)
def test_what_nobody_may_be_sent(wrong, says):
    own, e = session(), evaluation()
    own.receive(posdata(beads(1)))
    with pytest.raises(EvaluationError, match=says):
        own.deliver([Evaluation(**{**vars(e), **wrong})])
    assert own.status() == header("READY")


def test_one_evaluation_for_each_distinct_structure():
    own = session("batch_size:2")
    with pytest.raises(EvaluationError, match="1 evaluation of 0"):
        own.deliver([evaluation()])
    own.receive(posdata(beads(2)))
    with pytest.raises(EvaluationError, match="1 evaluation of 2"):
        own.deliver([evaluation()])


def test_units_are_those_of_ipi():
    """Eight digits agree."""
    units = pytest.importorskip("ipi.utils.units")
    found = to_angstrom(np.eye(3)[None], np.ones((1, 1, 3)))
    assert found.positions[0, 0, 0] == pytest.approx(units.unit_to_user("length", "angstrom", 1.0), rel=1e-7)
    assert HARTREE == pytest.approx(units.unit_to_user("energy", "electronvolt", 1.0), rel=1e-6)


def test_memory_is_bounded():
    assert session("batch_size:10")._wanted == ipi_protocol.HEADER
    assert ipi_protocol.MOST_BYTES < 2**32 and ipi_protocol.MOST_TEXT <= 2**20
