"""The way of finished labels from the inbox, where workers write them, into labels.db.

A label goes in one direction: the labeller makes it (`labellers.protocol.Label`), the worker writes it into the inbox
(`inbox.deliver`), `Arrivals` checks it and adds it to labels.db (`LabelStore.add`), and `LabelSource` hands it out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from ase import Atoms

from ..durable import as_run_folder_error
from ..labellers.protocol import Label, Labeller, key_of, same_energy
from . import inbox
from .store import LabelStore, StoredLabel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Doubted:
    """A result whose energy is not believed before another calculation confirms it.

    Parameters
    ----------
    doubt : str
        What is strange about it.
    settings : dict
        Calculator and parameters that made it.
    """

    doubt: str
    settings: dict[str, Any]


class Arrivals:
    """Results of workers on their way into the labels of a run folder.

    Whatever believable results an earlier run has left in the inbox are moved at once, so a label that was paid for just before
    a crash is found.

    Parameters
    ----------
    store : LabelStore

    Raises
    ------
    RunFolderError
        In any method, if labels.db or the inbox cannot be written; no result is lost.
    """

    def __init__(self, store: LabelStore):
        self.store, self.folder = store, store.folder / inbox.INBOX
        self.collect_all()

    def receive(self, key: str, labeller: Labeller) -> StoredLabel | Doubted | None:
        """The label under a key, in labels.db from now on; None if there is no result.

        Parameters
        ----------
        key : str
        labeller : Labeller
            The requested labeller: its settings and the structure of the result must give the key.
        """
        with as_run_folder_error(self.folder):
            inbox.recover(self.folder, key)
            found = inbox.take(self.folder, key)
            if found is not None and key_of(labeller, found[0]) != key:
                inbox.refuse(self.folder, key)
                found = None
        if found is not None and (doubt := self.store.doubt(*found)) is not None and not self._is_confirmed(key, found, doubt):
            return Doubted(doubt, dict(found[1].settings))
        return self.collect(key)

    def collect(self, key: str) -> StoredLabel | None:
        """Move a result into labels.db without asking whether it can be believed; None if there is none."""
        if key not in self.store:
            found = inbox.take(self.folder, key)
            if found is None:
                return None
            self.store.add(key, *found)
        with as_run_folder_error(self.folder):
            inbox.discard(self.folder, key)
        return self.store.get(key)

    def collect_all(self) -> int:
        """Move all results into labels.db except those with a doubtful energy; the number of new labels."""
        n_before = len(self.store)
        for key in inbox.waiting(self.folder):
            found = inbox.take(self.folder, key)
            if key in self.store or (found is not None and self.store.doubt(*found) is None):
                self.collect(key)
        with as_run_folder_error(self.folder):
            inbox.tidy(self.folder)
        return len(self.store) - n_before

    def _is_confirmed(self, key: str, found: tuple[Atoms, Label], doubt: str) -> bool:
        """Whether an earlier result had the same doubtful energy; if not, this one is set aside as well.

        Of two results that agree the first is stored: it was made with the requested parameters.
        """
        n_atoms = len(found[0])
        with as_run_folder_error(self.folder):
            for atoms, label in map(inbox.read_doubt, inbox.doubts(self.folder, key)):
                if same_energy(label.energy / n_atoms, found[1].energy / n_atoms):
                    log.warning("label %s: believed, since two calculations agree: %s", key[:12], doubt)
                    self.store.add(key, atoms, label)
                    return True
            inbox.set_aside(self.folder, key)
        return False
