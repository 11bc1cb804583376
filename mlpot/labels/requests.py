"""Labels for a run: asked for through an executor, checked, tried again, kept in labels.db or recorded as failed."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field

from ase import Atoms

from ..errors import SHORT, ConfigError, LabelError, ResourceError, RunFolderError
from ..labellers import failures
from ..labellers.protocol import Label, Labeller, key_of, same_energy
from ..structures import bare_structure
from . import claims, inbox
from .plan import FAILED
from .store import LabelStore, speaking

POLL_SECONDS = 0.1
LOSSES = 10
"""How often a label is begun anew, without counting as a try, because the process that was at it vanished."""
ROOM = 100_000
"""Bytes that the disk of a run has at least as long as nothing is wrong."""
LATE_SECONDS = 60.0
"""So late a network file system may show the file that another host has written."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What came of a request.

    Parameters
    ----------
    key : str
    atoms : ase.Atoms or None
        The structure with its results; None when there will be no label.
    paid : bool
        Whether this request started a calculation, rather than finding one.
    failure : str or None
        Why there will be no label, in a line.
    """

    key: str
    atoms: Atoms | None
    paid: bool
    failure: str | None = None


@dataclass
class _Request:
    """A label on its way: with us as long as there is a future, else with the holder of its claim."""

    atoms: Atoms
    future: Future | None = None
    watch: claims.Watch | None = None
    used: Labeller | None = None
    paid: bool = False
    tries: list[failures.Try] = field(default_factory=list)
    losses: int = 0
    late_until: float = 0.0
    told: bool = False


class LabelSource:
    """Labels through an executor and a store: what was paid for once is never asked for again.

    A label is believed when it passes `protocol.check_label` and `check_geometry`, in the worker, and when its energy is
    not strange among those that are there (`protocol.energy_doubt`), here. A strange energy counts as a failed try, unless
    another try gives it again; there is one try more for that. A label that fails for good is recorded in the folder
    `failed` of the run; a request for it finds the record and is not paid again, so that a run that is done again takes the
    same decisions.

    Parameters
    ----------
    labeller : Labeller
        Its settings name the label.
    store : LabelStore
        Where labels end up; its inbox must be reachable from the workers under the same path.
    executor : concurrent.futures.Executor
    tries : int
        Calculations before a label is given up. Ends of processes that the executor reports as such, or of the executor
        itself, are no tries.
    fallback : Labeller or None
        Makes the second try and those after it, with parameters that converge more surely.

    Raises
    ------
    RunFolderError
        In any method: if a label or a record cannot be written. No label is lost.
    ConfigError
        In any method but `request`: if the labeller cannot work at all, such as when its calculator cannot be imported.
    LabelError
        In any method: if the executor does not work any more.
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
        self.fallback = fallback or labeller
        self.failed = store.inbox.absolute().parent / FAILED
        self._requests: dict[str, _Request] = {}
        self._is_full = False
        self.interrupt: Callable[[], None] = lambda: None
        """Called now and then while something is waited for; what it raises ends that."""
        with speaking(self.failed):
            failures.tidy(self.failed)

    @property
    def pending(self) -> list[str]:
        """Keys under way, in the order of request."""
        return [key for key, request in self._requests.items() if request.future or request.watch]

    def request(self, atoms: Atoms) -> str:
        """Start a label unless it is stored, under way, or known as failed; never waits for a calculation. Its key."""
        key = key_of(self.labeller, atoms)
        known = self._requests.get(key)
        if known is not None and not known.told:
            return key
        request = self._requests[key] = _Request(bare_structure(atoms))
        if not self._is_settled(key):
            request.watch = self._watch(key)
            self._look(key, request)
        return key

    def outcome(self, key: str) -> Outcome | None:
        """What came of a request, or None while it is under way. Never waits; what has failed is tried again here.

        Raises
        ------
        KeyError
            If nobody has requested it and nothing is known of it.
        """
        request = self._requests.get(key)
        if request is not None and (request.future or request.watch):
            self._look(key, request)
            if request.future or request.watch:
                return None
        paid = request is not None and request.paid
        if request is not None:
            request.told = True
        stored = self.store.find(key)
        if stored is not None:
            return Outcome(key, stored.atoms, paid)
        failure = failures.find(self.failed, key)
        if failure is None:
            raise KeyError(f"label {key} was never requested")
        return Outcome(key, None, paid, failure)

    def wait(self, key: str) -> Outcome:
        """What came of a request, when it is known; the others are looked after meanwhile."""
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
        """Return when labels that processes of an earlier run still work at are in the store, or given up by them."""
        for key in inbox.claimed(self.store.inbox):
            watch = self._watch(key)
            if not watch.is_free():
                log.info("waiting for a label that an earlier run has begun: %s", key[:12])
            while not watch.is_free():
                self.interrupt()
                time.sleep(POLL_SECONDS)
        self.store.collect_inbox()

    def _look_for_room(self) -> None:
        """Say once that the disk is full: the worker of a finished label waits for room in silence."""
        folder = self.store.inbox.absolute().parent
        free = shutil.disk_usage(folder).free
        if free < ROOM and not self._is_full:
            log.warning("%s: %d bytes are left; a finished label waits %g s for room", folder, free, inbox.PATIENCE_SECONDS)
        self._is_full = free < ROOM

    def obtain(self, atoms: Atoms) -> Outcome:
        """Request a label and wait for it."""
        return self.wait(self.request(atoms))

    def _is_settled(self, key: str) -> bool:
        return key in self.store or failures.find(self.failed, key) is not None

    def _watch(self, key: str) -> claims.Watch:
        return claims.Watch(inbox.claim_of(self.store.inbox, key))

    def _look(self, key: str, request: _Request) -> None:
        """See whether a label under way has arrived, and start it again if it will not."""
        if request.future is not None:
            if request.future.done():
                # an exception from here on, such as of a full disk, leaves the request where it can be looked at again
                future, request.future, request.watch = request.future, None, self._watch(key)
                self._ended(key, request, future)
            return
        if request.watch is None:
            request.watch = self._watch(key)
        if request.watch.is_free() and not self._arrived(key, request) and time.monotonic() >= request.late_until:
            self._start(key, request)

    def _ended(self, key: str, request: _Request, future: Future) -> None:
        """A calculation of ours has ended: take its result, or count its failure."""
        if request.used is None:
            raise RuntimeError(f"label {key}: a calculation has ended that was never started")
        settings = dict(request.used.settings)
        try:
            future.result()
        except (ConfigError, RunFolderError):
            raise
        except CancelledError as error:
            raise LabelError(
                f"label {key[:12]}: the executor has dropped it; start its cluster again and --resume"
            ) from error
        except ImportError as error:  # of a worker that cannot even load the task: calculators' own are LabelErrors
            raise ConfigError(f"labeller.executor: its workers cannot import what they need: {error}") from error
        except Exception as error:  # whatever a worker, or the end of it, raises
            self._bury(key, error)
            if _is_short(error) and len(request.tries) + 1 >= self.tries:
                raise  # nothing is recorded, so that --resume asks again
            return self._count(key, request, failures.Try.of(error, settings))
        if self._arrived(key, request):
            return
        # another process holds the claim; or did, and ended without a result; or the result does not show yet
        request.losses += 1
        request.late_until = time.monotonic() + LATE_SECONDS
        if request.losses > LOSSES:
            lost = f"the processes that were at it vanished {request.losses} times"
            self._count(key, request, failures.Try(lost, settings))

    def _bury(self, key: str, error: Exception) -> None:
        """Remove the claim of a process that is known to have ended; from another host, only silence would tell."""
        dead = failures.process_of(error)
        claim = inbox.claim_of(self.store.inbox, key)
        if dead is not None and claims.read(claim) == dead:
            with speaking(claim):
                claims.remove(claim, dead)

    def _count(self, key: str, request: _Request, failed: failures.Try) -> None:
        """One try more has failed: start the next, or record that there will be no label."""
        request.tries.append(failed)
        log.warning("label %s failed (try %d of %d): %s", key[:12], len(request.tries), self.tries, failed.error)
        self._start(key, request)

    def _start(self, key: str, request: _Request) -> None:
        """The next try, unless all are spent. A strange energy has one more, to be confirmed by."""
        doubted = len(inbox.doubts(self.store.inbox, key))
        spent = max(len(request.tries), doubted)
        if spent >= self.tries + (doubted > 0):
            return self._give_up(key, request)
        request.used = self.fallback if spent else self.labeller
        arguments = (request.used, request.atoms, self.store.inbox.absolute(), key)
        try:
            request.future = self.executor.submit(inbox.label_into, *arguments)
        except RuntimeError as error:
            raise LabelError(f"label {key[:12]}: the executor takes no more tasks: {error}") from error
        request.paid, request.watch = True, None

    def _give_up(self, key: str, request: _Request) -> None:
        earlier = failures.Try("an earlier run doubted its energies", dict(self.labeller.settings))
        with speaking(self.failed):
            failures.record(self.failed, key, request.atoms, dict(self.labeller.settings), request.tries or [earlier])
            inbox.discard(self.store.inbox, key)
        request.watch = None

    def _arrived(self, key: str, request: _Request) -> bool:
        """Whether a result is there: in labels.db from now on, or doubted, which starts another try."""
        with speaking(self.store.inbox):
            inbox.recover(self.store.inbox, key)
            found = inbox.take(self.store.inbox, key)
        if found is not None and key_of(self.labeller, found[0]) != key:
            with speaking(self.store.inbox):
                inbox.refuse(self.store.inbox, key)
            found = None
        if found is not None and not self._is_believed(key, found):
            doubt = f"not believed: {self.store.doubt(*found)}"
            self._count(key, request, failures.Try(doubt, dict(found[1].settings)))
            return True
        if self.store.collect(key) is None:
            return False
        failures.forget(request.tries)
        request.watch = None
        return True

    def _is_believed(self, key: str, found: tuple[Atoms, Label]) -> bool:
        """Whether nothing is strange about an energy, or an earlier try gave the same; else it is set aside.

        Of two tries that agree the first is stored: its parameters are those that were asked for.
        """
        if self.store.doubt(*found) is None:
            return True
        n_atoms, box = len(found[0]), self.store.inbox
        with speaking(box):
            for atoms, label in map(inbox.read_doubt, inbox.doubts(box, key)):
                if same_energy(label.energy / n_atoms, found[1].energy / n_atoms):
                    log.warning(
                        "label %s: believed, for two calculations agree: %s", key[:12], self.store.doubt(*found)
                    )
                    self.store.add(key, atoms, label)
                    return True
            inbox.set_aside(box, key)
        return False


def _is_short(error: Exception) -> bool:
    """Whether a try failed for want of what a machine has too little of."""
    return isinstance(error, ResourceError) or (isinstance(error, OSError) and error.errno in SHORT)
