"""Labels whose energy is strange, whose file has no room, or whose name is wrong: none is believed, none is lost."""

import logging
from pathlib import Path

import numpy as np
import pytest
from conftest import lennard_jones
from labelling import bare, labeller_of, n_calls, source

from mlpot.durable import write_text
from mlpot.errors import RunFolderError
from mlpot.labellers.protocol import OUTLIER_LEAST, key_of
from mlpot.labels import inbox
from mlpot.labels.inbox import label_into

# ---------------------------------------------------------------- strange energies


def crowd(folder, n_labels=OUTLIER_LEAST):
    """A store with so many labels of one composition."""
    for seed in range(n_labels):
        source(folder).obtain(bare(100 + seed))
    (folder / "calls").unlink()


def test_an_energy_that_does_not_come_again_is_not_believed(tmp_path, caplog):
    crowd(tmp_path)
    outcome = source(tmp_path, fail=["outlier"]).obtain(bare())
    direct = bare()
    direct.calc = lennard_jones()
    assert outcome.atoms.get_potential_energy() == direct.get_potential_energy()
    assert "from the median of 10 labels" in caplog.text
    assert n_calls(tmp_path) == 2 and not list((tmp_path / "inbox").iterdir())


def test_an_energy_that_comes_again_is_believed(tmp_path, caplog):
    """That of the first try, whose parameters are those asked for."""
    crowd(tmp_path)
    labels = source(tmp_path, always="strange", fallback={"seconds": 0.01})
    outcome = labels.obtain(bare())
    direct = bare()
    direct.calc = lennard_jones()
    assert outcome.atoms.get_potential_energy() == direct.get_potential_energy() + 50 * len(direct)
    assert "two calculations agree" in caplog.text
    assert "seconds" not in labels.store.rows()[-1].data["settings"]["parameters"]
    assert n_calls(tmp_path) == 2 and not list((tmp_path / "inbox").iterdir())


@pytest.mark.parametrize("tries", [1, 2])
def test_energies_that_all_differ_are_a_failure(tmp_path, tries):
    """There is one try more, for otherwise a single try could never be confirmed."""
    crowd(tmp_path)
    labels = source(tmp_path, always="outlier", tries=tries)
    outcome = labels.obtain(bare())
    assert outcome.atoms is None and "not believed" in outcome.failure
    assert n_calls(tmp_path) == tries + 1
    assert len(labels.store) == OUTLIER_LEAST and not list((tmp_path / "inbox").iterdir())


def test_doubts_survive_the_process(tmp_path):
    """A strange result that arrives while nobody looks is neither believed at the next start nor lost."""
    crowd(tmp_path)
    label_into(labeller_of(tmp_path, always="strange"), bare(), tmp_path / "inbox")
    labels = source(tmp_path, always="strange")
    assert len(labels.store) == OUTLIER_LEAST
    outcome = labels.obtain(bare())
    assert outcome.atoms is not None and n_calls(tmp_path) == 2
    (tmp_path / "calls").unlink()
    label_into(labeller_of(tmp_path, always="strange"), bare(7), tmp_path / "inbox")
    inbox.set_aside(tmp_path / "inbox", key_of(labels.labeller, bare(7)))
    assert source(tmp_path, always="strange").obtain(bare(7)).atoms is not None
    assert n_calls(tmp_path) == 2


def test_few_labels_judge_nobody(tmp_path):
    crowd(tmp_path, OUTLIER_LEAST - 1)
    assert source(tmp_path, always="strange").obtain(bare()).atoms is not None
    assert n_calls(tmp_path) == 1


# ---------------------------------------------------------------- disks


def full_disk(folder):
    def write(file, text):
        if Path(file).parent == folder and file.suffix == ".json":
            raise OSError(28, "No space left on device", str(file))
        write_text(file, text)

    return write


@pytest.mark.parametrize("resumed", [False, True])
def test_a_label_that_found_no_room_is_found_again(tmp_path, monkeypatch, resumed):
    """Written to the local disk, it is moved in as soon as there is room, by this process or the next."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "local"))
    (tmp_path / "local").mkdir()
    labels = source(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(inbox, "write_text", full_disk(labels.inbox))
        key = labels.request(bare())
        with pytest.raises(RunFolderError, match="No space left"):
            labels.outcome(key)
        with pytest.raises(RunFolderError, match="No space left"):
            labels.outcome(key)
    assert (source(tmp_path) if resumed else labels).obtain(bare()).atoms is not None
    assert n_calls(tmp_path) == 1
    assert not list((tmp_path / "local").iterdir()) and not list((tmp_path / "inbox").iterdir())


def test_a_result_of_another_structure_is_not_believed(tmp_path, caplog):
    """A file moved in by hand under the wrong name."""
    labels = source(tmp_path)
    key = label_into(labels.labeller, bare(1), labels.inbox)
    wrong = key_of(labels.labeller, bare())
    (labels.inbox / f"{key}.json").rename(labels.inbox / f"{wrong}.json")
    with caplog.at_level(logging.WARNING):
        outcome = labels.obtain(bare())
    np.testing.assert_array_equal(outcome.atoms.positions, bare().positions)
    assert "refused" in caplog.text
    assert (labels.inbox / f"{wrong}.json.refused").exists()
