"""Codes that misbehave: each costs its own label, is quoted, and leaves nothing behind."""

import os
import time
from pathlib import Path

import pytest
from labelling import crystal, has_ended

from mlpot.errors import LabelError
from mlpot.labellers import failures, last_words
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labels.plan import LabellingPlan
from mlpot.learning.run_folder import opened_source
from mlpot.workers.local import SubprocessExecutor

CODE = "hostile_codes.HostileCode"


def labeller(how, file=None):
    return CalculatorLabeller(CODE, {"how": how, "file": None if file is None else str(file)})


def failure_of(how, folder, **plan):
    """The line that a run says of a label by a code that misbehaves."""
    plan = LabellingPlan(CODE, {"how": how, "file": str(folder / "pids")}, tries=1, **plan)
    with opened_source(plan, folder / "run", resume=False) as (_, source):
        outcome = source.obtain(crystal())
    assert outcome.atoms is None
    return outcome.failure


# ---------------------------------------------------------------- what it said


def test_the_files_of_a_code_are_quoted(tmp_path):
    line = failure_of("complains", tmp_path)
    assert r"code.err: " in line and r"\x1b[31mbasis set for Cu is missing\x1b[0m" in line
    assert len(line) < 500 and line.isprintable()


def test_what_a_code_prints_is_quoted(tmp_path):
    line = failure_of("prints", tmp_path)
    assert r"code.x failed" in line and r"it printed: license server \x1b]0;x\x07 is down" in line


def test_the_end_of_a_long_text_is_kept():
    text = last_words.tail("\n".join(["a", "b" * 1000, "", "c\x1b", "the end\n\n"]))
    assert text.startswith("...bbb") and text.endswith(r"| c\x1b | the end") and len(text) == last_words.MOST
    assert last_words.tail(" \n") == ""


def test_a_complaint_before_the_end_is_quoted():
    """CP2K prints its stack after the reason, pw.x the ranks that stop."""
    box = ["*" * 30, "* [ABORT]      *", "* The requested basis set <NOPE> was not found *", "* in the files BASIS *", "*" * 30]
    stack = ["===== Routine Calling Stack =====", "", "  3 read_qs_kind", "  2 create_qs_kind_set", "  1 CP2K"]
    said = last_words.tail("\n".join(["error of an earlier step", "done", *box, *stack]))
    assert said == "The requested basis set <NOPE> was not found | in the files BASIS | Routine Calling Stack"
    assert last_words.tail("error 1\nok\nok\nat last\nfatal: no memory") == "ok | at last | fatal: no memory"
    assert last_words.tail("\n".join(["an error", *["step"] * 100])) == "step | step | step"


def test_files_for_errors_come_first_and_empty_ones_do_not_count(tmp_path):
    assert last_words.of_folder(tmp_path) == ""
    (tmp_path / "code.out").write_text("done 3 of 4\n")
    (tmp_path / "code.err").write_text("\n")
    (tmp_path / "wavefunction.bin").write_bytes(b"\0" * 100)
    os.mkfifo(tmp_path / "pipe.err")
    assert last_words.of_folder(tmp_path) == "code.out: done 3 of 4"
    (tmp_path / "code.err").write_text("no memory\n")
    assert last_words.of_folder(tmp_path) == "code.err: no memory"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("is_complex", "forces has complex numbers"),
        ("has_a_complex_stress", "stress has complex numbers"),
        ("is_nan", "forces is not finite"),
        ("says_text", "could not convert string to float"),
    ],
)
def test_results_that_are_no_real_numbers_are_refused(how, words):
    with pytest.raises(LabelError, match=words):
        labeller(how).label(crystal())


# ---------------------------------------------------------------- what it leaves


def stayer(folder):
    """Pid of the program that a code has started."""
    end = time.monotonic() + 30
    while not (folder / "pids").exists() or not (folder / "pids").read_text().endswith(" "):
        assert time.monotonic() < end
        time.sleep(0.02)
    (pid,) = map(int, (folder / "pids").read_text().split())
    return pid


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="only Linux keeps track of what has left its session")
@pytest.mark.parametrize("how", ["stays_and_hangs", "stays_and_crashes", "stays_and_succeeds"])
def test_a_program_in_a_session_of_its_own_does_not_survive_its_label(tmp_path, how):
    with SubprocessExecutor(timeout=10.0) as executor:
        future = executor.submit(labeller(how, tmp_path / "pids").label, crystal())
        pid = stayer(tmp_path)
        assert not has_ended(pid, 0.0)
        if how == "stays_and_succeeds":
            assert future.result().energy
        else:
            with pytest.raises(LabelError, match=r"longer than|SIGSEGV"):
                future.result()
        assert has_ended(pid, 5.0)


def test_the_end_of_an_executor_ends_programs_in_sessions_of_their_own(tmp_path):
    with pytest.raises(KeyboardInterrupt), SubprocessExecutor() as executor:
        executor.submit(labeller("stays_and_hangs", tmp_path / "pids").label, crystal())
        pid = stayer(tmp_path)
        raise KeyboardInterrupt
    assert has_ended(pid, 5.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("spews", "enough"),
        ("closes_everything", "ended with status"),
        ("stops_itself", "longer than the limit of 8 s"),
        ("kills_its_group", "status 143|SIGTERM"),
        ("exits", "ended with status|leaving"),
        ("ignores_signals", "longer than the limit of 8 s"),
        ("interrupts", "KeyboardInterrupt|ended with status"),
        ("recurses", "RecursionError"),
        ("removes_its_folder", None),
        ("forks", None),
        ("is_an_error_with_control_characters", r"\\x1b\]0;owned\\x07\\x9b2J\\u202e"),
    ],
)
def test_a_hostile_code_costs_its_own_label_only(tmp_path, how, words):
    with SubprocessExecutor(timeout=8.0, keep_failed=tmp_path / "failed") as executor:
        future = executor.submit(labeller(how).label, crystal())
        if words is None:
            assert future.result(60).energy
        else:
            with pytest.raises(LabelError, match=words) as caught:
                future.result(60)
            line = failures.Try.of(caught.value, {}).error.splitlines()[0]
            assert line.isprintable()
        assert executor.submit(pow, 2, 3).result(60) == 8
