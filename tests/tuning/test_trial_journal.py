"""The journal: nothing is lost, nothing is paid twice, whenever the process dies."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlpot.errors import FitError, RunFolderError
from mlpot.settings.fit import FitConfig
from mlpot.tuning.journal import Journal, Outcome
from mlpot.tuning.search import Limits, search
from mlpot.tuning.space import Space
from mlpot.tuning.swarm import Swarm

TEMPLATE = FitConfig(terms=[{"type": "pair"}, {"type": "soap"}])
SPACE = Space.of({"terms[0].cutoff": [2.0, 6.0], "terms[1].atom_sigma": [0.2, 0.6], "terms[1].l_max": [2, 5]}, TEMPLATE)


def evaluate(values):
    """A function of the settings with a region that fails; paid calls are counted in a file."""
    if "PAID" in os.environ:
        with open(os.environ["PAID"], "a") as file:
            file.write(f"{sorted(values.items())}\n")
    if values["terms[0].cutoff"] > 4.4:
        raise FitError("too far")
    error = (values["terms[0].cutoff"] - 4) ** 2 + (values["terms[1].atom_sigma"] - 0.3) ** 2 + 0.1 * values["terms[1].l_max"]
    return Outcome(forces=0.01 + error, energies=0.01)


def run(journal, n, **more):
    swarm = Swarm(SPACE.dimension, np.array([[0.5, 0.5]] * 4), SPACE.snapped, 3)

    def objectives(outcome):
        return None if outcome.failure else np.log([outcome.forces, outcome.energies])

    return search("features", SPACE, swarm, evaluate, objectives, journal, Limits(n), **more)


def plain(trials):
    return [(t.number, t.values, t.outcome.forces, t.outcome.failure) for t in trials]


def test_a_search_in_pieces_is_the_whole_search(tmp_path):
    whole = run(Journal(":memory:", {}), 25)
    assert sum(t.outcome.failure == "too far" for t in whole) > 0
    for n in (4, 5, 13, 25):
        book = Journal(tmp_path / "tuned.db", {"data": 1}, resume=True)
        found = run(book, n)
        book.close()
        assert len(found) == n
    assert plain(found) == plain(whole)


def test_a_journal_belongs_to_one_search(tmp_path):
    file = tmp_path / "tuned.db"
    Journal(file, {"data": 1}).close()
    with pytest.raises(RunFolderError, match="continue it with --resume"):
        Journal(file, {"data": 1})
    with pytest.raises(RunFolderError, match="begun with other data"):
        Journal(file, {"data": 2}, resume=True)
    file.write_bytes(b"not a database at all, but long enough to be looked at" * 20)
    with pytest.raises(RunFolderError, match="cannot be used"):
        Journal(file, {"data": 1}, resume=True)


def test_two_searches_do_not_share_a_journal(tmp_path):
    book = Journal(tmp_path / "tuned.db", {})
    with pytest.raises(RunFolderError, match="locked"):
        Journal(tmp_path / "tuned.db", {}, resume=True)
    book.close()


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
import test_trial_journal as t
from mlpot.tuning.journal import Journal
at = int(sys.argv[1])
count = 0
class Dying(Journal):
    def ask(self, *a):
        out = super().ask(*a); self.hit(); return out
    def tell(self, *a):
        self.hit(); out = super().tell(*a); self.hit(); return out
    def hit(self):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
book = Dying({file!r}, {{}}, resume=True)
t.run(book, 12)
"""


def killed_search(folder, kills):
    """A search that is killed at given places of its successive lives, and the evaluations paid for."""
    file, paid = folder / "tuned.db", folder / "paid"
    code = KILLED.format(folder=str(Path(__file__).parent), file=str(file))
    environment = {**os.environ, "PAID": str(paid), "OMP_NUM_THREADS": "1"}
    for at in kills:
        done = subprocess.run([sys.executable, "-c", code, str(at)], env=environment, capture_output=True, text=True)
        assert done.returncode in (-9, 0), done.stderr
    book = Journal(file, {}, resume=True)
    found = run(book, 12)
    book.close()
    return found, paid.read_text().splitlines() if paid.exists() else []


def test_killed_anywhere_it_goes_on_bit_for_bit(tmp_path):
    """An evaluation is made again only if the process died during it: at most one for each kill between ask and tell."""
    whole = run(Journal(":memory:", {}), 12)
    found, paid = killed_search(tmp_path, (5,))
    assert plain(found) == plain(whole)
    assert len(paid) - len(set(paid)) <= 1


@pytest.mark.slow
def test_many_kills(tmp_path):
    whole = run(Journal(":memory:", {}), 12)
    rng = np.random.default_rng(0)
    kills = [int(rng.integers(1, 9)) for _ in range(6)]
    found, paid = killed_search(tmp_path, kills)
    assert plain(found) == plain(whole)
    assert len(paid) - len(set(paid)) <= len(kills)  # of each kill, at most the evaluation that it interrupted
