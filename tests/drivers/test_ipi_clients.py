"""Clients in threads, one evaluator in the main thread."""

import threading

import numpy as np
import pytest
from ase.build import molecule

from mlpot.drivers.ipi_clients import SharedEvaluator
from mlpot.drivers.ipi_protocol import Evaluation
from mlpot.errors import ServerError, StructureError

SECONDS = 20


class Evaluator:
    def __init__(self, error=None):
        self.threads, self.requests, self.error = [], [], error

    def evaluate(self, beads, request=None):
        self.requests.append(request)
        self.threads.append(threading.current_thread())
        if self.error:
            raise self.error
        return [Evaluation(atoms.positions[0, 0], atoms.positions, np.eye(3)) for atoms in beads]


class Client:
    """Asks as often as it is told, then ends."""

    def __init__(self, shared, number, questions, error=None):
        self.shared, self.number, self.questions, self.error = shared, number, questions, error
        self.answers, self.heard = [], None

    def run(self):
        atoms = molecule("H2O")
        try:
            for k in range(self.questions):
                atoms.positions[:] = 100 * self.number + k
                self.answers.append(self.shared.evaluate([atoms], self.number)[0].energy)
        except Exception as error:
            self.heard = error
            raise
        if self.error:
            raise self.error


def test_everybody_gets_their_own_answer_from_one_thread():
    shared, evaluator = SharedEvaluator(), Evaluator()
    clients = [Client(shared, number, 50) for number in range(4)]
    shared.serve(evaluator, clients)
    for client in clients:
        assert client.answers == [100 * client.number + k for k in range(50)]
    assert set(evaluator.threads) == {threading.main_thread()} and len(evaluator.threads) == 200
    assert sorted(evaluator.requests) == [0] * 50 + [1] * 50 + [2] * 50 + [3] * 50


def test_an_error_of_a_client_ends_all():
    shared = SharedEvaluator()
    with pytest.raises(ServerError, match="nobody"):
        shared.serve(Evaluator(), [Client(shared, 0, 3), Client(shared, 1, 1, ServerError("nobody"))])


def test_an_error_of_the_evaluator_reaches_both_sides():
    shared, error = SharedEvaluator(), StructureError("flat")
    client = Client(shared, 0, 3)
    with pytest.raises(StructureError, match="flat"):
        shared.serve(Evaluator(error), [client])
    for _ in range(SECONDS * 100):
        if client.heard is not None:
            break
        threading.Event().wait(0.01)
    assert client.heard is error
