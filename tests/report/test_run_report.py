"""The report of a run says what log.csv and labels.db hold; it reads only, whatever state the run is in."""

import re
from html import escape
from html.parser import HTMLParser

import ase.io
import numpy as np
import pytest
from conftest import make_frames
from learning_runs import campaign, do_run, plan

from mlpot.errors import DataError, RunFolderError, StructureError
from mlpot.labels.store import read_rows
from mlpot.learning.checkpoints import RunSettings
from mlpot.learning.policy import LABEL_REASONS, Rules
from mlpot.learning.run_folder import RunFolder
from mlpot.models.evaluate import evaluate
from mlpot.models.files import load_model
from mlpot.models.prediction import counted_error
from mlpot.report.log_file import extremes, read_log
from mlpot.report.run_plots import KINDS
from mlpot.report.run_report import write_run_report
from mlpot.structures import all_labelled

pytestmark = pytest.mark.slow

RULES = Rules(target=0.005, soft_fraction=0.7, check_interval=12, min_interval=2)
FAULTS = {"fail": ["", "", "nan", "nan", "nan", "nan"]}


class Tables(HTMLParser):
    """Cells of the tables of a page, by their id."""

    def __init__(self, page):
        super().__init__()
        self.found, self._rows, self._cell = {}, None, None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self._rows = self.found.setdefault(dict(attrs).get("id"), [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data):
        if self._cell:
            self._rows[-1][-1] += data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two walkers with all kinds of labels, one of which at least failed; check labels show that it has stalled."""
    home = tmp_path_factory.mktemp("report")
    settings = RunSettings(interval=5, converged_after=10, target_error=1e-9, cores=3)
    plans = [plan(steps=60, seed=1), plan(steps=40, seed=2, ramp=(200.0, 900.0))]
    status, _ = do_run(
        home / "run", home / "calls", plans, rules=RULES, settings=settings, plan_of_faults=FAULTS, on_failure="go on"
    )
    assert status == "finished"
    return home / "run"


@pytest.fixture(scope="module")
def page(run):
    return write_run_report(run, run.parent / "page.html", [run / "trajectory_w0.xyz"]).read_text()


@pytest.fixture(scope="module")
def tables(page):
    return Tables(page).found


@pytest.fixture(scope="module")
def labels(run):
    return sorted(read_rows(run), key=lambda row: row.model_version)


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.slow
def test_summary(run, tables, labels, page):
    summary = dict(tables["summary"])
    log = read_log(run / "log.csv")
    assert summary["status"].startswith("finished")
    state = RunFolder(run, resume=True).load_state()
    told = state["convergence"]
    assert state["verdict"] in ("stalled", "not converged")
    assert f'class="warning" id="verdict">{state["verdict"].capitalize()}: {escape(told["reason"])}' in page
    evidence = dict(tables["evidence"])
    checks = [row.force_error for row in labels if row.reason == "check"][-5:]
    assert int(evidence["check labels among them"]) == len(checks) > 0
    assert float(evidence["RMS force error of the last labels eV/Å"]) == pytest.approx(
        told["rms_error_of_last_labels"], rel=1e-3
    )
    assert summary["steps"].startswith(f"{len(log['step']) - 2} of 2 walkers")
    assert f"{100 * (1 - log['labelled'].mean()):.2f} %" in summary["steps"]
    reasons = [row.reason for row in labels]
    assert summary["labels"].startswith(f"{len(labels)}: ")
    assert {"no model", "check", "soft"} <= set(reasons)
    for reason in set(reasons):
        assert f"{reasons.count(reason)} {reason}" in summary["labels"]
    failed = list((run / "failed").glob("*.json"))
    assert failed and int(summary["failed labels"]) == len(failed) == len(tables["failures"]) - 1
    assert {row[0] for row in tables["failures"][1:]} == {file.stem[:12] for file in failed}
    assert all("not finite" in row[2] and row[1] == "Si32" for row in tables["failures"][1:])
    assert summary["calibration"].endswith(load_model(run / "model.h5").calibration.described())
    walkers = {row[0]: row for row in tables["walkers"][1:]}
    assert walkers["w0"][1:6] == ["32", "Si32", "nvt", "60", "0.120"]
    assert int(walkers["w1"][6]) == sum(row.walker == "w1" for row in labels)


def test_the_page_stands_by_itself(page):
    text = re.sub('base64,[^"]*', "", page)
    assert "http" not in text and "src=" in text
    assert all(source.startswith("data:image/png") for source in re.findall('src="([^"]{14})', text))
    assert 'name="viewport"' in text and "@media print" in text
    assert text.count("timeline of") == 2
    for name in ("learning curve", "calibration", "map of environments", "radial distribution functions", "costs"):
        assert f'alt="{name}"' in text
    assert len(page) < 4_000_000


def test_table_of_labels(tables, labels):
    heads, *rows = tables["labels"]
    assert len(rows) == len(labels)
    for row, label in zip(rows, labels, strict=True):
        cell = dict(zip(heads, row, strict=True))
        values = label.key_value_pairs
        assert [cell["walker"], cell["step"], cell["reason"]] == [label.walker, str(label.walker_step), label.reason]
        assert label.label_key.startswith(cell["key"])
        assert float(cell["label s"]) == pytest.approx(label.label_seconds, abs=0.006)
        if "force_error" not in values:
            assert cell["RMS force error eV/Å"] == "-"
            continue
        error = label.data["predicted_forces"] - label.forces
        assert float(cell["RMS force error eV/Å"]) == pytest.approx(rms(error), abs=6e-5)
        assert float(cell["expected eV/Å"]) == pytest.approx(rms(label.data["predicted_forces_std"]), abs=6e-5)
        counted = counted_error(label.data["predicted_forces_std"])
        assert float(cell["expected, as targets count eV/Å"]) == pytest.approx(counted, abs=6e-5)
        energy = 1e3 * (label.data["predicted_energy"] - label.energy) / 32
        assert float(cell["energy error meV/atom"]) == pytest.approx(energy, abs=6e-3)


def test_errors_and_calibration(tables, labels):
    told = [row for row in labels if "force_error" in row.key_value_pairs]
    groups = {"all": told, "check": [row for row in told if row.reason == "check"]}
    groups["all, second half"] = told[len(told) // 2 :]
    errors = {row[0]: row for row in tables["errors"][1:]}
    coverage = {row[0]: row for row in tables["coverage"][1:]}
    for name, rows in groups.items():
        assert int(errors[name][1]) == len(rows) > 0
        assert float(errors[name][2]) == pytest.approx(rms([row.force_error for row in rows]), abs=6e-5)
        ratios = np.concatenate(
            [((row.data["predicted_forces"] - row.forces) / row.data["predicted_forces_std"]).ravel() for row in rows]
        )
        assert int(coverage[name][1]) == len(ratios)
        assert float(coverage[name][2]) == pytest.approx(np.mean(np.abs(ratios) <= 1), abs=6e-4)
        assert float(coverage[name][3]) == pytest.approx(np.mean(np.abs(ratios) <= 2), abs=6e-4)
        assert float(coverage[name][4]) == pytest.approx(rms(ratios), abs=6e-4)


def test_every_reason_of_a_label_has_its_look():
    assert list(KINDS) == [*LABEL_REASONS, "failed"]


def test_origins(tables, labels):
    heads, *rows = tables["origins"]
    for row in rows:
        cells = dict(zip(heads[1:], map(int, row[1:]), strict=True))
        own = [label.reason for label in labels if label.walker == row[0]]
        assert cells.pop("all") == len(own)
        assert cells == {reason: own.count(reason) for reason in cells}
    told = sum("force_error" in row.key_value_pairs for row in labels)
    assert tables["elements"][1] == ["Si", str(told), "100 %", "100 %"]


def test_expected_errors_of_energies_and_stress(run, tables, labels):
    log = read_log(run / "log.csv")
    rows = {row[0]: row for row in tables["expected"][1:]}
    for name in ("w0", "w1"):
        own = log["walker"] == name
        energy = 1e3 * log["expected_energy_error_eV_per_atom"][own]
        stress = log["expected_stress_error_GPa"][own]
        known = [f(v) for v in (energy, stress) for f in (np.nanmedian, np.nanmax, lambda v: v[-1])]
        assert [float(cell) for cell in rows[name][1:]] == pytest.approx(known, rel=6e-3)
    number, error, expected = tables["energy-errors"][1]
    told = [row for row in labels if "force_error" in row.key_value_pairs]
    assert int(number) == len(told)
    errors = [1e3 * (row.data["predicted_energy"] - row.energy) / 32 for row in told]
    assert float(error) == pytest.approx(rms(errors), abs=6e-3) and float(expected) > 0


@pytest.mark.slow
def test_a_log_of_an_earlier_version(run, tmp_path):
    """It lacks the last columns; the page has no section on them."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("labels.db", "model.h5", "state.json", "trajectory_w0.xyz", "trajectory_w1.xyz"):
        (folder / name).symlink_to(run / name)
    lines = (run / "log.csv").read_text().splitlines()
    (folder / "log.csv").write_text("".join(line.rsplit(",", 3)[0] + "\n" for line in lines))
    assert np.isnan(read_log(folder / "log.csv")["max_force_eV_per_A"]).all()
    found = Tables(write_run_report(folder).read_text()).found
    assert "expected" not in found and "labels" in found


def test_costs(run, tables, labels):
    log, state = read_log(run / "log.csv"), RunFolder(run, resume=True).load_state()
    wall = {row[0].split(" (")[0]: float(row[1]) for row in tables["wall"][1:]}
    parts = {name: value for name, value in wall.items() if name != "all"}
    assert sum(parts.values()) == pytest.approx(wall["all"], abs=0.03)
    assert wall["all"] == pytest.approx(state["spent"]["wall"], abs=0.01)
    assert wall["prediction"] == pytest.approx(log["seconds"][log["labelled"] == 0].sum(), abs=0.006)
    assert wall["refit"] == pytest.approx(sum(row.refit_seconds for row in labels), abs=0.006)
    savings = dict(tables["savings"])
    paid = sum(row.label_seconds for row in labels)
    plain = len(log["step"]) * paid / len(labels) * 3 / 3600
    spent = (state["spent"]["cpu"] + 3 * paid) / 3600
    assert float(savings["core hours spent"].split()[0]) == pytest.approx(spent, rel=1e-3)
    assert float(savings["core hours of plain ab initio dynamics"].split()[0]) == pytest.approx(plain, rel=1e-3)
    assert float(savings["times less"]) == pytest.approx(plain / spent, rel=5e-3)


@pytest.mark.slow
def test_radial_distributions_beside_a_reference(run, tables, tmp_path):
    rows = {row[0]: row for row in tables["radial"][1:]}
    assert rows["w0"][3] == rows["w0"][4] and rows["w0"][7] == "0.000"
    assert float(rows["w1"][7]) > 0.01 and float(rows["w0"][3]) == pytest.approx(3.6 / np.sqrt(2), abs=0.1)
    with pytest.raises(DataError, match="no such file"):
        write_run_report(run, tmp_path / "r.html", [tmp_path / "missing.xyz"])
    ase.io.write(tmp_path / "molecule.xyz", ase.Atoms("Si2", [[0, 0, 0], [2, 0, 0]]))
    with pytest.raises(StructureError, match="periodic"):
        write_run_report(run, tmp_path / "r.html", [tmp_path / "molecule.xyz"])
    assert not (tmp_path / "r.html").exists()


@pytest.mark.slow
def test_fresh_labels(run, tmp_path):
    frames = make_frames(3, seed=8)
    ase.io.write(run / "check.xyz", frames, format="extxyz")
    try:
        found = Tables(write_run_report(run, tmp_path / "r.html").read_text()).found
        (run / "check.xyz").write_text("3\nhalf")
        page = write_run_report(run, tmp_path / "r.html").read_text()
    finally:
        (run / "check.xyz").unlink()
    known = evaluate(load_model(run / "model.h5"), all_labelled(frames))
    row = dict(zip(*found["check"], strict=True))
    assert float(row["F RMSE eV/A"]) == pytest.approx(known.overall.force_rmse_ev_per_ang, abs=6e-5)
    coverage = dict(found["check-calibration"])
    assert float(coverage["within 2 σ"]) == pytest.approx(known.calibration["force_coverage_2_sigma"], abs=6e-4)
    assert "check.xyz[0]: the file ends within this frame" in page


def snapshot(folder):
    return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(folder.rglob("*"))}


@pytest.mark.slow
def test_a_run_that_is_going_on_is_only_read(tmp_path):
    """Another process holds the folder, a result waits in its inbox, its last line is unfinished."""
    assert do_run(tmp_path / "run", tmp_path / "calls", plan(), stop_after=20)[0] == "interrupted"
    interrupted = Tables(write_run_report(tmp_path / "run", tmp_path / "r.html").read_text()).found
    assert "interrupted" in dict(interrupted["summary"])["status"]
    with open(tmp_path / "run" / "log.csv", "a") as log:
        log.write("22,44.0,300.0")
    with campaign(tmp_path / "run", tmp_path / "calls", resume=True):
        (tmp_path / "run" / "inbox").mkdir(exist_ok=True)
        (tmp_path / "run" / "inbox" / "something.json").write_text("{}")
        before = snapshot(tmp_path / "run")
        page = write_run_report(tmp_path / "run", tmp_path / "r.html").read_text()
        assert snapshot(tmp_path / "run") == before
    found = Tables(page).found
    assert "running (process" in dict(found["summary"])["status"]
    assert found["walkers"][1][4] == "20"


def test_a_run_of_one_label(tmp_path):
    """Nothing was predicted before it was labelled: there is nothing to compare yet, and the page says so."""
    do_run(tmp_path / "run", tmp_path / "calls", plan(steps=1), rules=Rules(threshold=1e3, novelty=1e9))
    page = write_run_report(tmp_path / "run").read_text()
    assert len(read_rows(tmp_path / "run")) == 1 and "nothing to compare" in page
    assert len(Tables(page).found["labels"]) == 2


def test_no_run(tmp_path):
    with pytest.raises(RunFolderError, match="name the folder of a learning run"):
        write_run_report(tmp_path)
    (tmp_path / "log.csv").write_text("step,energy\n1,2\n")
    with pytest.raises(RunFolderError, match="lacks the columns"):
        write_run_report(tmp_path)
    do_run(tmp_path / "run", tmp_path / "calls", plan(steps=1))
    head = (tmp_path / "run" / "log.csv").read_text().splitlines()[0]
    (tmp_path / "run" / "log.csv").write_text(head + "\n")
    with pytest.raises(RunFolderError, match="no steps yet"):
        write_run_report(tmp_path / "run")


@pytest.mark.slow
def test_a_million_steps(run, tmp_path):
    """The page stays small, and a single outlier among all these steps is still in the line."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("labels.db", "model.h5", "state.json", "trajectory_w0.xyz", "trajectory_w1.xyz"):
        (folder / name).symlink_to(run / name)
    head, *lines = (run / "log.csv").read_text().splitlines()
    predicted = [line.split(",", 2)[2] for line in lines if ",w0," in line][-20:]
    with open(folder / "log.csv", "w") as log:
        log.write(head + "\n")
        for k in range(1_000_000):
            log.write(f"{k},{2.0 * k},{predicted[k % 20]}\n")
    log = read_log(folder / "log.csv")
    assert len(log["step"]) == 1_000_000 and log["step"][-1] == 999_999
    values = log["temperature_K"].copy()
    values[777_777] = 1e5
    kept = extremes(values, 1000)
    assert len(kept) <= 2002 and 777_777 in kept and kept[0] == 0 and kept[-1] == 999_999
    assert values[kept].min() == values.min()
    page = write_run_report(folder).read_text()
    assert len(page) < 4_000_000
    assert Tables(page).found["walkers"][1][4] == "999999"


def test_extremes():
    values = np.array([3.0, 1.0, 2.0, np.nan, np.nan, np.nan, 5.0, 9.0, 7.0])
    np.testing.assert_array_equal(extremes(values, 3), [0, 1, 6, 7, 8])
    np.testing.assert_array_equal(extremes(values, 5), np.arange(9))
