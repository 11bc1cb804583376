"""Run folders: one owner, a state that comes back, files that are cut back."""

import hashlib
import json
import os

import numpy as np
import pytest
from labelling import other_process

from mlpot.errors import RunFolderError
from mlpot.learning.run_folder import FORMAT, OWNER, SEAL, STATE, GrowingFile, RunFolder, read_state
from mlpot.processes import identity

# ---------------------------------------------------------------- labels.db


def test_a_folder_with_something_in_it_needs_resume(tmp_path):
    with RunFolder(tmp_path / "new" / "run") as folder:
        folder.save_state({"step": 1})
    with pytest.raises(RunFolderError, match="--resume"):
        RunFolder(tmp_path / "new" / "run")
    assert [file.name for file in (tmp_path / "new" / "run").iterdir()] == [STATE]
    with RunFolder(tmp_path / "new" / "run", resume=True) as folder:
        assert folder.load_state() == {"step": 1}


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    for resume in (False, True):
        with pytest.raises(RunFolderError, match=str(tmp_path)):
            RunFolder(tmp_path, resume)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_that_ended_before_its_first_label_goes_on(tmp_path):
    (tmp_path / "run.log").write_text("")
    with pytest.raises(RunFolderError, match="--resume"):
        RunFolder(tmp_path)
    RunFolder(tmp_path, resume=True).release()
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunFolderError, match="holds files but no run"):
        RunFolder(tmp_path, resume=True)


@pytest.mark.slow
def test_a_folder_has_one_owner(tmp_path):
    code = "import sys; from mlpot.learning.run_folder import RunFolder\nRunFolder(sys.argv[1], resume=True)\nprint('in')"
    with RunFolder(tmp_path) as folder:
        folder.save_state({})
        answer = other_process(code, tmp_path)
        assert f"process {os.getpid()}" in answer
        assert "RunFolderError" in answer
        with RunFolder(tmp_path, resume=True):
            pass
    assert other_process(code, tmp_path).strip() == "in"
    # that process ended without giving the folder up
    assert (tmp_path / OWNER).exists()
    RunFolder(tmp_path, resume=True).release()
    assert not (tmp_path / OWNER).exists()


@pytest.mark.parametrize(
    "stale",
    [json.dumps({"host": "h", "pid": "x"}), "", json.dumps({**identity(), "started": "0"})],
    ids=["no pid", "empty", "of another start"],
)
def test_a_stale_owner_is_replaced(tmp_path, stale):
    (tmp_path / OWNER).write_text(stale)
    (tmp_path / ".state.json.1-ff.tmp").write_text("half")
    with RunFolder(tmp_path, resume=True):
        assert json.loads((tmp_path / OWNER).read_text()) == identity()
    assert not list(tmp_path.iterdir())


def test_an_owner_on_another_host_is_believed(tmp_path):
    (tmp_path / OWNER).write_text(json.dumps({**identity(), "host": "elsewhere"}))
    with pytest.raises(RunFolderError, match="elsewhere"):
        RunFolder(tmp_path, resume=True)
    assert (tmp_path / OWNER).exists()


def test_a_state_comes_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(5)
    rng.normal(size=7)
    old = np.random.Generator(np.random.MT19937(3))
    arrays = {
        "positions": rng.normal(size=(50, 3)) * 1e-200,
        "fortran": np.asfortranarray(rng.normal(size=(3, 4))),
        "strided": np.arange(12)[::2],
        "empty": np.zeros((0, 3)),
        "scalar": np.array(1 / 3),
        "big_endian": np.arange(3, dtype=">f8"),
        "bool": np.array([True, False]),
        "nan": np.array([np.nan, -0.0, np.inf]),
    }
    state = {
        "rng": rng.bit_generator.state, "old": old.bit_generator.state,
        "nested": [{"a": (1, 2)}, None, True, "ö"],
        "float": 0.1 + 0.2, "numpy": np.float64(1 / 3), "integer": np.int64(2**62), "huge": 2**200, **arrays,
    }  # fmt: skip
    folder = RunFolder(tmp_path)
    folder.save_state(state)
    found = folder.load_state()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
    other = np.random.default_rng()
    other.bit_generator.state = found["rng"]
    assert np.array_equal(other.normal(size=9), rng.normal(size=9))
    twister = np.random.Generator(np.random.MT19937())
    twister.bit_generator.state = found["old"]
    assert np.array_equal(twister.normal(size=9), old.normal(size=9))
    assert found["nested"] == [{"a": [1, 2]}, None, True, "ö"]
    assert (found["float"], found["numpy"], found["integer"], found["huge"]) == (
        0.1 + 0.2,
        1 / 3,
        2**62,
        2**200,
    )
    folder.release()


@pytest.mark.parametrize("wrong", [{1: 2}, {"a": np.array([None])}, {"a": object()}])
def test_what_would_not_come_back_is_refused(tmp_path, wrong):
    with RunFolder(tmp_path) as folder:
        folder.save_state({"step": 1})
        with pytest.raises(TypeError):
            folder.save_state(wrong)
        assert folder.load_state() == {"step": 1}


def test_a_damaged_state_is_said(tmp_path):
    with RunFolder(tmp_path) as folder:
        assert folder.load_state() is None
        folder.save_state({"positions": np.arange(30.0)})
        good = (tmp_path / STATE).read_bytes()
        broken = [good[:n] for n in (0, 1, len(good) // 2, len(good) - 1)]
        broken += [b"[1]", b"\xff\xfe", good.replace(b"<f8", b"<q9"), good.replace(b"[30]", b"[31]")]
        for text in broken:
            (tmp_path / STATE).write_bytes(text)
            with pytest.raises(RunFolderError, match=r"state\.json"):
                folder.load_state()


def test_a_state_is_sealed(tmp_path):
    """Another valid number, a key less or more, another format: nothing but other spelling passes."""
    with RunFolder(tmp_path) as folder:
        folder.save_state({"step": 1, "deep": {"energy": -1.5, "names": ["a"]}, "positions": np.arange(3.0)})
        good = (tmp_path / STATE).read_text()
        assert set(json.loads(good)) == {"step", "deep", "positions", FORMAT, SEAL}
        before = folder.load_state()
        swaps = [("-1.5", "-1.25"), ('"step": 1', '"step": 2'), ('"a"', '"b"'), ("AAAAAAAA", "AAAABAAA"), ('"step": 1, ', "")]
        swaps += [(SEAL, "sha257"), ('"format": 2', '"format": 3'), ('"format": 2, ', ""), ('{"format"', '{"x": 1, "format"')]
        for old, new in swaps:
            assert good.count(old) >= 1, old
            (tmp_path / STATE).write_text(good.replace(old, new, 1))
            with pytest.raises(RunFolderError, match=r"state\.json: cannot be read: .* has changed .* delete it and .* --resume"):
                folder.load_state()
        (tmp_path / STATE).write_text(json.dumps(json.loads(good), indent=1, sort_keys=True))
        again = folder.load_state()
        np.testing.assert_array_equal(again.pop("positions"), before.pop("positions"))
        assert again == before


def test_a_state_of_an_earlier_or_a_later_version(tmp_path):
    (tmp_path / STATE).write_text('{"step": 3}')
    assert read_state(tmp_path) == {"step": 3}
    later = {FORMAT: 3, "step": 3}
    digest = hashlib.sha256(json.dumps(later, sort_keys=True).encode()).hexdigest()
    (tmp_path / STATE).write_text(json.dumps({**later, SEAL: digest}))
    with pytest.raises(RunFolderError, match="its format is 3, but this version of mlpot reads 2"):
        read_state(tmp_path)


def test_a_failed_save_keeps_the_last_state(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with RunFolder(tmp_path) as folder:
        folder.save_state({"step": 1})
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(RunFolderError, match=r"state\.json.*No space left"):
                folder.save_state({"step": 2})
        assert folder.load_state() == {"step": 1}
        assert {file.name for file in tmp_path.iterdir()} == {STATE, OWNER}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunFolderError, match="Permission denied"):
        RunFolder(tmp_path)
    tmp_path.chmod(0o700)


def test_a_path_that_cannot_be_a_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="file"):
        RunFolder(tmp_path / "file" / "run")


def test_a_growing_file_is_cut_back(tmp_path):
    file = GrowingFile(tmp_path / "log.csv")
    file.append("one\n")
    length = file.sync()
    file.append("two\nthr")
    file.close()
    file = GrowingFile(tmp_path / "log.csv", length)
    file.append("zwei\n")
    assert file.sync() == 9
    file.close()
    assert (tmp_path / "log.csv").read_text() == "one\nzwei\n"
    with pytest.raises(RunFolderError, match=r"log\.csv: has 9 bytes"):
        GrowingFile(tmp_path / "log.csv", 10)
    assert (tmp_path / "log.csv").read_text() == "one\nzwei\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_growing_file_on_a_full_disk(tmp_path):
    file = GrowingFile(tmp_path / "log.csv")
    with open("/dev/full", "ab") as full:
        os.dup2(full.fileno(), file._handle.fileno())
    file.append("one\n")
    with pytest.raises(RunFolderError, match=r"log\.csv.*No space left"):
        file.sync()
