"""In which order bytes and names reach the disk: what a power cut leaves."""

import errno
import os

import pytest

from mlpot.durable import atomic_write, create_text, write_text
from mlpot.errors import system_trouble


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


def test_a_full_disk_is_told_by_the_name_of_the_file(tmp_path):
    """The system says no name for a write, and that of the temporary file for an open one."""
    for name in (None, "the temporary one"):
        with pytest.raises(OSError, match="No space left") as caught, atomic_write(tmp_path / "map.html") as temporary:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *((str(temporary),) if name else ()))
        assert system_trouble(caught.value).startswith(f"{tmp_path}/map.html: No space left on device; make room")
    with pytest.raises(OSError, match="elsewhere") as caught, atomic_write(tmp_path / "map.html"):
        open("/nowhere/elsewhere")
    assert caught.value.filename == "/nowhere/elsewhere" and list(tmp_path.iterdir()) == []
