"""In which order bytes and names reach the disk: what a power cut leaves."""

import os

import pytest

from mlpot.durable import atomic_write, create_text, write_text


@pytest.fixture
def events(monkeypatch):
    """Which file or folder was flushed, and when a name was given, in this order."""
    found = []

    def noting(name, call, what):
        def noted(*arguments):
            result = call(*arguments)
            found.append((name, what(*arguments)))
            return result

        monkeypatch.setattr(os, call.__name__, noted)

    noting("flushed", os.fsync, lambda descriptor: os.fstat(descriptor).st_ino)
    noting("named", os.replace, lambda _, target: target.stat().st_ino)
    noting("named", os.link, lambda _, target: target.stat().st_ino)
    return found


@pytest.mark.parametrize("write", [write_text, create_text])
def test_content_then_name_then_folder(tmp_path, events, write):
    """A name before its bytes may be an empty file after a crash; a folder that is not flushed may not have the name."""
    file = tmp_path / "state.json"
    write(file, "{}")
    content, folder = file.stat().st_ino, tmp_path.stat().st_ino
    assert events == [("flushed", content), ("named", content), ("flushed", folder)]


def test_what_fails_gets_no_name(tmp_path, events):
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "state.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert not events and not list(tmp_path.iterdir())
