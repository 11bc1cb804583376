"""Labels for a run: requested through an executor, repeated after failures, and handed out from labels.db or recorded as failed."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field

from ase import Atoms

from ..durable import as_run_folder_error
from ..errors import SHORT, ConfigError, LabelError, ResourceError, RunFolderError
from ..labellers import failures
from ..labellers.protocol import Labeller, key_of
from ..structures import bare_structure
from . import claims, inbox
from .arrivals import Arrivals, Doubted
from .plan import FAILED
from .store import LabelStore

POLL_SECONDS = 0.1
LOSSES = 10
"""Largest number of restarts of a label after its process has vanished; these do not count as attempts."""
ROOM = 100_000
"""Bytes of free disk space below which there is a warning."""
LATE_SECONDS = 60.0
"""Delay with which a network file system may show a file written by another host."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequestResult:
    """The result of a request.

    Parameters
    ----------
    key : str
    atoms : ase.Atoms or None
        The structure with its label; None if there will be none.
    paid : bool
        Whether this request started a calculation rather than finding a label.
    failure : str or None
        Why there will be no label, in one line.
    """

    key: str
    atoms: Atoms | None
    paid: bool
    failure: str | None = None


@dataclass
class _Request:
    """A label under way: calculated for this process if there is a future, otherwise by the holder of its claim."""

    atoms: Atoms
    future: Future | None = None
    watch: claims.Watch | None = None
    used: Labeller | None = None
    paid: bool = False
    tries: list[failures.Try] = field(default_factory=list)
    losses: int = 0
    late_until: float = 0.0
    is_reported: bool = False


class LabelSource:
    """Labels from an executor and a store; no label is calculated twice.

    A label is accepted if it passes `protocol.check_label` and `check_geometry` in the worker, and if its energy is plausible among
    the stored ones (`protocol.energy_doubt`). An implausible energy counts as a failed try unless another try gives the same energy;
    there is one additional try for that. A label that has failed for good is recorded in the folder `failed` of the run. A later
    request finds the record and does not calculate it again, so that a run that is repeated makes the same decisions.

    Parameters
    ----------
    labeller : Labeller
        Makes the labels; its settings are part of their keys.
    store : LabelStore
        Stores the labels; workers must reach its folder under the same path.
    executor : concurrent.futures.Executor
    tries : int
        Number of calculations after which a label counts as failed. Calculations that end because the executor ends do not count.
    fallback : Labeller or None
        Makes the second and later tries, with parameters that converge more reliably.

    Raises
    ------
    RunFolderError
        In any method: if a label or a record cannot be written; no label is lost.
    ConfigError
        In any method except `request`: if the labeller cannot work at all, for example if its calculator cannot be imported.
    LabelError
        In any method: if the executor no longer works.
    """

    def __init__(
        self,
        labeller: Labeller,
        store: LabelStore,
        executor: Executor,
        tries: int = 2,
        *,
        fallback: Labeller | None = None,
    ):
        self.labeller, self.store, self.executor, self.tries = labeller, store, executor, tries
        self._arrivals = Arrivals(store)
        self.inbox = self._arrivals.folder
        self.fallback = fallback or labeller
        self.failed = store.folder.absolute() / FAILED
        self._requests: dict[str, _Request] = {}
        self._is_full = False
        self.interrupt: Callable[[], None] = lambda: None
        """Called regularly while waiting for a label; an exception ends the waiting."""
        with as_run_folder_error(self.failed):
            failures.tidy(self.failed)

    @property
    def pending(self) -> list[str]:
        """Keys under way, in the order of request."""
        return [key for key, request in self._requests.items() if request.future or request.watch]

    def request(self, atoms: Atoms) -> str:
        """Start a label unless it is stored, under way, or recorded as failed; returns its key without waiting."""
        key = key_of(self.labeller, atoms)
        known = self._requests.get(key)
        if known is not None and not known.is_reported:
            return key
        request = self._requests[key] = _Request(bare_structure(atoms))
        if not self._is_settled(key):
            request.watch = self._watch(key)
            self._look(key, request)
        return key

    def outcome(self, key: str) -> RequestResult | None:
        """The result of a request, or None while it is under way. Does not wait; failed calculations are repeated here.

        Raises
        ------
        KeyError
            If it was never requested and is not known.
        """
        request = self._requests.get(key)
        if request is not None and (request.future or request.watch):
            self._look(key, request)
            if request.future or request.watch:
                return None
        paid = request is not None and request.paid
        if request is not None:
            request.is_reported = True
        stored = self.store.find(key)
        if stored is not None:
            return RequestResult(key, stored.atoms, paid)
        failure = failures.find(self.failed, key)
        if failure is None:
            raise KeyError(f"label {key} was never requested")
        return RequestResult(key, None, paid, failure)

    def wait(self, key: str) -> RequestResult:
        """Wait for the result of a request; the other requests are attended to meanwhile."""
        while True:
            self.interrupt()
            found = self.outcome(key)
            if found is not None:
                return found
            for other in self.pending:
                self._look(other, self._requests[other])
            futures = [request.future for request in self._requests.values() if request.future]
            self._look_for_room()
            if futures:
                wait_for(futures, POLL_SECONDS, return_when="FIRST_COMPLETED")
            else:
                time.sleep(POLL_SECONDS)

    def wait_for_others(self) -> None:
        """Wait until the labels on which processes of an earlier run still work have been stored or have failed."""
        for key in inbox.claimed(self.inbox):
            watch = self._watch(key)
            if not watch.is_free():
                log.info("waiting for a label that an earlier run has started: %s", key[:12])
            while not watch.is_free():
                self.interrupt()
                time.sleep(POLL_SECONDS)
        self._arrivals.collect_all()

    def _look_for_room(self) -> None:
        """Warn once if the disk is full: the worker of a finished label waits for space without saying so."""
        folder = self.failed.parent
        free = shutil.disk_usage(folder).free
        if free < ROOM and not self._is_full:
            log.warning(
                "%s: only %d bytes are free; finished labels wait up to %g s for disk space", folder, free, inbox.PATIENCE_SECONDS
            )
        self._is_full = free < ROOM

    def obtain(self, atoms: Atoms) -> RequestResult:
        """Request a label and wait for it."""
        return self.wait(self.request(atoms))

    def _is_settled(self, key: str) -> bool:
        return key in self.store or failures.find(self.failed, key) is not None

    def _watch(self, key: str) -> claims.Watch:
        return claims.Watch(inbox.claim_of(self.inbox, key))

    def _look(self, key: str, request: _Request) -> None:
        """Check whether a label has arrived, and start it again if no process is working on it."""
        if request.future is not None:
            if request.future.done():
                # after an exception from here on, for example because the disk is full, the request can be checked again
                future, request.future, request.watch = request.future, None, self._watch(key)
                self._ended(key, request, future)
            return
        if request.watch is None:
            request.watch = self._watch(key)
        if request.watch.is_free() and not self._arrived(key, request) and time.monotonic() >= request.late_until:
            self._start(key, request)

    def _ended(self, key: str, request: _Request, future: Future) -> None:
        """A calculation of this process has ended: take its result, or count its failure."""
        if request.used is None:
            raise RuntimeError(f"label {key}: a calculation has ended that was never started")
        settings = dict(request.used.settings)
        try:
            future.result()
        except (ConfigError, RunFolderError):
            raise
        except CancelledError as error:
            why = getattr(self.executor, "dropped", None) or "the executor has dropped it; restart the cluster"
            raise LabelError(f"label {key[:12]}: {why}; continue with --resume") from error
        except ImportError as error:  # the worker cannot even load the task: import errors in calculators are LabelErrors
            raise ConfigError(
                f"labeller.executor: a worker cannot import a package: {error}; install it where the workers run"
            ) from error
        except Exception as error:  # anything that a worker, or its end, raises
            self._bury(key, error)
            if _is_short(error) and len(request.tries) + 1 >= self.tries:
                raise  # not recorded as failed, so that --resume requests it again
            return self._count(key, request, failures.Try.of(error, settings))
        if self._arrived(key, request):
            return
        # another process holds the claim, or has ended without a result, or its result is not visible yet
        request.losses += 1
        request.late_until = time.monotonic() + LATE_SECONDS
        if request.losses > LOSSES:
            lost = f"the process that calculated it has vanished {request.losses} times"
            self._count(key, request, failures.Try(lost, settings))

    def _bury(self, key: str, error: Exception) -> None:
        """Remove the claim of a process that is known to have ended, also on another host."""
        dead = failures.process_of(error)
        claim = inbox.claim_of(self.inbox, key)
        if dead is not None and claims.read(claim) == dead:
            with as_run_folder_error(claim):
                claims.remove(claim, dead)

    def _count(self, key: str, request: _Request, failed: failures.Try) -> None:
        """Count a failed try: start the next, or record that there will be no label."""
        request.tries.append(failed)
        log.warning("label %s failed (try %d of %d): %s", key[:12], len(request.tries), self.tries, failed.error)
        self._start(key, request)

    def _start(self, key: str, request: _Request) -> None:
        """Start the next try, unless all are used. After a doubtful energy there is an additional one to confirm it."""
        doubted = len(inbox.doubts(self.inbox, key))
        spent = max(len(request.tries), doubted)
        if spent >= self.tries + (doubted > 0):
            return self._give_up(key, request)
        request.used = self.fallback if spent else self.labeller
        arguments = (request.used, request.atoms, self.inbox.absolute(), key)
        try:
            request.future = self.executor.submit(inbox.label_into, *arguments)
        except RuntimeError as error:
            raise LabelError(f"label {key[:12]}: the executor accepts no more tasks: {error}; continue with --resume") from error
        request.paid, request.watch = True, None

    def _give_up(self, key: str, request: _Request) -> None:
        earlier = failures.Try("an earlier run doubted its energies", dict(self.labeller.settings))
        with as_run_folder_error(self.failed):
            failures.record(self.failed, key, request.atoms, dict(self.labeller.settings), request.tries or [earlier])
            inbox.discard(self.inbox, key)
        request.watch = None

    def _arrived(self, key: str, request: _Request) -> bool:
        """Whether a result is there: in labels.db from now on, or doubted, which starts another try."""
        found = self._arrivals.receive(key, self.labeller)
        if found is None:
            return False
        if isinstance(found, Doubted):
            self._count(key, request, failures.Try(f"not believed: {found.doubt}", found.settings))
            return True
        failures.forget(request.tries)
        request.watch = None
        return True


def _is_short(error: Exception) -> bool:
    """Whether a try failed because a resource (disk space, open files, memory) was exhausted."""
    return isinstance(error, ResourceError) or (isinstance(error, OSError) and error.errno in SHORT)
