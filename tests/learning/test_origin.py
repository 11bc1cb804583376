"""What a run keeps of the checkout that it was made with."""

import subprocess

import pytest

from mlpot.learning import run_environment as origin


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    def git(*words):
        names = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", *names, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    monkeypatch.setattr(origin, "ROOT", tmp_path)
    return tmp_path, git("rev-parse", "HEAD").strip()


def test_the_commit_is_marked_when_files_differ(checkout):
    folder, commit = checkout
    (folder / "untracked").write_text("")
    assert origin._git_commit() == commit
    (folder / "a").write_text("2")
    assert origin._git_commit() == f"{commit}-dirty"


def test_the_index_of_a_checkout_is_left_alone(checkout):
    """A git that is killed, since it takes too long, would leave its lock: nobody could commit any more."""
    folder, commit = checkout
    index = (folder / ".git" / "index").read_bytes()
    (folder / "a").write_text("1")  # another time stamp: an index that may be refreshed
    assert origin._git_commit() == commit
    assert (folder / ".git" / "index").read_bytes() == index
