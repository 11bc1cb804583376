"""The i-PI client against a little server, and its evaluator."""

import socket
import threading
import time

import numpy as np
import pytest
from ase.build import bulk
from test_ipi_protocol import cells, header, init, posdata

from mlpot.drivers import ipi, ipi_socket
from mlpot.drivers.ipi import IpiClient, order_of_species
from mlpot.drivers.ipi_protocol import Evaluation
from mlpot.drivers.ipi_socket import Address
from mlpot.errors import ConfigError, EvaluationError, ProtocolError, ServerError, StructureError
from mlpot.units import BOHR, HARTREE

TEMPLATE = bulk("Si", cubic=True)
N = len(TEMPLATE)
SECONDS = 20
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


class Recorder:
    """Forces that are the positions; remembers what it was asked."""

    identify = False

    def __init__(self):
        self.asked, self.requests = [], []

    def evaluate(self, beads, request=None):
        self.requests.append(request)
        self.asked.append([atoms.copy() for atoms in beads])
        return [Evaluation(float(k), atoms.positions.copy(), np.eye(3), {"k": k}) for k, atoms in enumerate(beads)]


class Listener:
    """A UNIX socket, or one of TCP, whose connections are served by functions, one after the other, in a thread."""

    def __init__(self, path, *conversations):
        self.socket = socket.create_server(("localhost", 0)) if path is None else socket.socket(socket.AF_UNIX)
        if path is not None:
            self.socket.bind(str(path))
            self.socket.listen()
        self.socket.settimeout(SECONDS)
        self.thread = threading.Thread(target=self.serve, args=(conversations,), daemon=True)
        self.thread.start()

    def serve(self, conversations):
        with self.socket:
            for conversation in conversations:
                connection, _ = self.socket.accept()
                with connection:
                    connection.settimeout(SECONDS)
                    conversation(connection)

    def join(self):
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()


def read(connection, n):
    data = b""
    while len(data) < n:
        data += connection.recv(n - len(data)) or pytest.fail(f"the client left after {data!r}")
    return data


def ask(connection, name="STATUS"):
    connection.sendall(header(name))
    return read(connection, 12).decode().strip()


def answer(connection, n_beads=1):
    """Energies, forces and extras of FORCEREADY."""
    assert read(connection, 12) == header("FORCEREADY")
    energies = np.frombuffer(read(connection, 8 * n_beads))
    assert np.frombuffer(read(connection, 4), np.int32)[0] == N
    forces = np.frombuffer(read(connection, 24 * N * n_beads)).reshape(n_beads, N, 3)
    read(connection, 72 * n_beads)
    texts = [read(connection, int(np.frombuffer(read(connection, 4), np.int32)[0])) for _ in range(n_beads)]
    return energies * HARTREE, forces * HARTREE / BOHR, texts


def begin(connection, text=""):
    assert ask(connection) == "NEEDINIT"
    connection.sendall(init(text))
    assert ask(connection) == "READY"


def one_force(connection):
    """As i-PI does, everything in one piece."""
    begin(connection)
    connection.sendall(posdata([TEMPLATE]) + header("GETFORCE"))
    _, forces, _ = answer(connection)
    np.testing.assert_allclose(forces[0], TEMPLATE.positions, atol=1e-12)


def and_exit(connection):
    one_force(connection)
    connection.sendall(header("EXIT"))


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(ipi, "FAREWELL", 0.3)
    return tmp_path / "s"


def serve(path, *conversations, evaluator=None, patience=SECONDS, template=TEMPLATE):
    """Run a client against a listener; the client."""
    client = IpiClient(Address(path=str(path)), template, evaluator or Recorder(), patience)
    listener = Listener(path, *conversations)
    try:
        client.run()
    finally:
        listener.join()
    return client


def test_one_structure(path):
    assert serve(path, and_exit).n_served == 1


def test_over_tcp(path):
    listener = Listener(None, and_exit)
    client = IpiClient(Address.tcp("localhost", listener.socket.getsockname()[1]), TEMPLATE, Recorder())
    client.run()
    listener.join()
    assert client.n_served == 1


def test_in_turn_and_slowly(path):
    """STATUS and GETFORCE come one after the other, as from ASE, and the bytes one by one."""

    def conversation(connection):
        begin(connection)
        for byte in posdata([TEMPLATE]):
            connection.sendall(bytes([byte]))
        assert ask(connection) == "HAVEDATA"
        assert ask(connection) == "HAVEDATA"
        connection.sendall(header("GETFORCE"))
        answer(connection)
        assert ask(connection) == "READY"
        connection.sendall(header("EXIT"))

    serve(path, conversation)


def test_a_batch_is_evaluated_at_once_and_copies_not_at_all(path):
    beads = [TEMPLATE.copy() for _ in range(2)]
    beads[1].rattle(0.1)

    def conversation(connection):
        begin(connection, "batch_size:4")
        connection.sendall(posdata([beads[0], beads[1], beads[1], beads[1]]) + header("GETFORCE"))
        energies, forces, texts = answer(connection, 4)
        np.testing.assert_allclose(energies, [0, 1, 1, 1])
        np.testing.assert_allclose(forces[3], beads[1].positions, atol=1e-12)
        assert texts == [b'{"k": 0}', b'{"k": 1}', b'{"k": 1}', b'{"k": 1}']
        connection.sendall(header("EXIT"))

    recorder = Recorder()
    client = serve(path, conversation, evaluator=recorder)
    assert client.n_served == 2 and [len(beads) for beads in recorder.asked] == [2]
    np.testing.assert_allclose(recorder.asked[0][1].positions, beads[1].positions, atol=1e-13)


def test_what_the_evaluator_gets(path):
    """Elements and periodicity of the template, cell and positions of the server, no constraints."""
    template = TEMPLATE.copy()
    template.numbers[3] = 6
    template.pbc = [True, True, False]
    template.set_constraint()
    template.info["energy"] = 3.0
    recorder = Recorder()
    serve(path, and_exit, evaluator=recorder, template=template)
    (got,) = recorder.asked[0]
    assert got.numbers.tolist() == template.numbers.tolist() and got.pbc.tolist() == [True, True, False]
    np.testing.assert_allclose(got.cell.array, TEMPLATE.cell.array, atol=1e-13)
    assert not got.info


def test_the_line_is_empty_while_it_computes(path):
    """GETFORCE was taken off before the evaluator began, even when it came late: only then is a killed client a clean end."""
    went, left = threading.Event(), threading.Event()

    class Slow(Recorder):
        def evaluate(self, beads, request=None):
            went.set()
            assert left.wait(SECONDS)
            raise StructureError("this one ends")

    def conversation(connection):
        begin(connection)
        connection.sendall(posdata([TEMPLATE]))
        time.sleep(0.2)
        assert not went.is_set()
        connection.sendall(header("GETFORCE"))
        assert went.wait(SECONDS)
        left.set()
        assert connection.recv(1) == b""  # not ConnectionResetError

    with pytest.raises(StructureError, match="this one ends"):
        serve(path, conversation, evaluator=Slow())


def test_servers_come_and_go(path):
    """Gone without a word after a force, dropped by EXIT, and served again each time."""
    assert serve(path, one_force, and_exit, one_force, and_exit).n_served == 4


def test_a_server_that_says_nothing_is_asked_again_a_while_later(path):
    began = time.monotonic()
    serve(path, lambda connection: None, lambda connection: None, and_exit)
    assert time.monotonic() - began > 2 * ipi.NEXT_HEADER * 0.9


def test_patience_with_a_server_that_says_nothing(path):
    with pytest.raises(ServerError, match=r"no server for 0\.2 s"):
        serve(path, *[lambda connection: None] * 2, patience=0.2)


def test_waiting_for_a_server(path, monkeypatch):
    """The file of a dead socket is no server; then one comes."""
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    client = IpiClient(Address(path=str(path)), TEMPLATE, Recorder(), SECONDS)
    thread = threading.Thread(target=client.run, daemon=True)
    thread.start()
    time.sleep(0.3)
    path.unlink()
    Listener(path, and_exit).join()
    thread.join(SECONDS)
    assert client.n_served == 1


def test_patience(path):
    client = IpiClient(Address(path=str(path)), TEMPLATE, Recorder(), patience=0.2)
    began = time.process_time()
    with pytest.raises(ServerError, match=r"no server for 0\.2 s"):
        client.run()
    assert time.process_time() - began < 0.2
    with pytest.raises(ServerError, match=r"no server for 0\.2 s"):
        serve(path, one_force, patience=0.2)


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "unknown header"),
        (header("GETFORCE"), "before POSDATA"),
        (init("") + posdata([TEMPLATE[:-1]]), "the server has 7 atoms, the template 8"),
        (init("") + header("POSDATA") + cells(np.zeros((3, 3))) + posdata([TEMPLATE])[156:], "has no volume"),
    ],
)
def test_a_server_that_makes_no_sense(path, sent, says):
    with pytest.raises(ProtocolError, match=says):
        serve(path, lambda connection: connection.sendall(sent))


def test_a_message_that_stops(path, monkeypatch):
    monkeypatch.setattr(ipi, "STALLED", 0.2)

    def conversation(connection):
        begin(connection)
        connection.sendall(posdata([TEMPLATE])[:-5])
        assert connection.recv(1) == b""

    with pytest.raises(ProtocolError, match=r"positions did not come for 0\.2 s"):
        serve(path, conversation)


def test_nan_is_not_sent(path):
    class Broken(Recorder):
        def evaluate(self, beads, request=None):
            return [Evaluation(0.0, np.full((N, 3), np.nan), np.eye(3))]

    def conversation(connection):
        begin(connection)
        connection.sendall(posdata([TEMPLATE]) + header("GETFORCE"))
        assert connection.recv(1) == b""

    with pytest.raises(EvaluationError, match="not finite"):
        serve(path, conversation, evaluator=Broken())


@pytest.mark.parametrize(
    "error", [OSError("disk full"), EOFError("worker"), KeyboardInterrupt(), ServerError("its own")]
)
def test_errors_of_the_evaluator_are_not_those_of_the_line(path, error):
    class Broken(Recorder):
        def evaluate(self, beads, request=None):
            raise error

    def conversation(connection):
        begin(connection)
        connection.sendall(posdata([TEMPLATE]) + header("GETFORCE"))
        assert connection.recv(1) == b""

    with pytest.raises(type(error)):
        serve(path, conversation, evaluator=Broken())


def test_addresses(tmp_path):
    assert str(Address.unix("si")) == "/tmp/ipi_si" and str(Address.unix("si", "/scratch/")) == "/scratch/si"
    assert str(Address.tcp("node1", 31415)) == "node1:31415"
    for wrong in (
        lambda: Address.unix(""),
        lambda: Address.tcp("localhost", 0),
        lambda: Address.tcp("localhost", 65536),
    ):
        with pytest.raises(ConfigError):
            wrong()
    with pytest.raises(ServerError, match="correct the name"):
        ipi_socket.connect(Address.unix("x" * 200), time.monotonic() + SECONDS)
    with pytest.raises(ServerError, match="unknown host"):
        ipi_socket.connect(Address.tcp("no.such.host.invalid", 1), time.monotonic() + SECONDS)


def test_an_empty_template():
    with pytest.raises(StructureError, match="no atoms"):
        IpiClient(Address.unix("x"), TEMPLATE[:0], Recorder())


def test_order_of_species():
    assert order_of_species(TEMPLATE) == "Si8"
    assert order_of_species(bulk("NaCl", "rocksalt", a=5.6) * (2, 1, 1)) == "Na Cl Na Cl"
    long = order_of_species(bulk("NaCl", "rocksalt", a=5.6) * (20, 1, 1))
    assert long.endswith("Na ...") or long.endswith("Cl ...")
    assert len(long) < 110


@pytest.mark.parametrize("asked", [True, False])
def test_a_server_that_closes_and_removes_its_socket_has_ended(path, monkeypatch, asked):
    """As ASE's SocketIOCalculator, before or after it has asked for something."""
    monkeypatch.setitem(ipi.WAITS, ipi.Ending.CLOSED, 0.3)

    def conversation(connection):
        path.unlink()
        if asked:
            begin(connection)

    listener = Listener(path, conversation)
    client = IpiClient(Address(path=str(path)), TEMPLATE, Recorder(), patience=SECONDS)
    client.run()
    listener.join()


def test_one_that_is_killed_leaves_its_socket_and_is_waited_for(path):
    with pytest.raises(ServerError, match=r"no server for 0\.7 s"):
        serve(path, begin, patience=0.7)


def test_once_is_enough(path):
    """With `once` the client leaves with the first server, though its socket is still there."""
    listener = Listener(path, begin)
    IpiClient(Address(path=str(path)), TEMPLATE, Recorder(), patience=SECONDS, once=True).run()
    listener.join()
