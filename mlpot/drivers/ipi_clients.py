"""Several connections to a server, one evaluator: a step's beads come over all of them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from ase import Atoms

from .ipi import IpiClient
from .ipi_evaluator import Evaluator
from .ipi_protocol import Evaluation


@dataclass(frozen=True)
class _Question:
    """A client's request: beads to evaluate."""

    beads: Sequence[Atoms]
    request: int | None
    answer: Future = field(default_factory=Future)


@dataclass(frozen=True)
class _Ended:
    """A client has, by itself or with an error."""

    error: BaseException | None = None


class SharedEvaluator:
    """Hands what clients in threads of their own want to know to the thread that evaluates, in the order in which they ask.

    Signals reach the main thread only, so that is where labels are waited for.
    """

    identify = True

    def __init__(self) -> None:
        self._heard: queue.SimpleQueue[_Question | _Ended] = queue.SimpleQueue()

    def evaluate(self, beads: Sequence[Atoms], request: int | None = None) -> Sequence[Evaluation]:
        """See `Evaluator`; waits for `serve`."""
        question = _Question(beads, request)
        self._heard.put(question)
        return question.answer.result()

    def serve(self, evaluator: Evaluator, clients: Sequence[IpiClient]) -> None:
        """Run clients of this evaluator until all of them have ended; raises what the first of them, or `evaluator`, raised."""
        for client in clients:
            threading.Thread(target=self._run, args=(client,), daemon=True).start()
        left = len(clients)
        while left:
            heard = self._heard.get()
            if isinstance(heard, _Question):
                _answer(evaluator, heard)
            elif heard.error is not None:
                raise heard.error
            else:
                left -= 1

    def _run(self, client: IpiClient) -> None:
        try:
            client.run()
        except BaseException as error:  # `serve` raises it in the caller's thread
            self._heard.put(_Ended(error))
        else:
            self._heard.put(_Ended())


def _answer(evaluator: Evaluator, question: _Question) -> None:
    try:
        question.answer.set_result(evaluator.evaluate(question.beads, question.request))
    except BaseException as error:  # lets the client close its connection as well
        question.answer.set_exception(error)
        raise
