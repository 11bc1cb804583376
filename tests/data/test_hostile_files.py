"""Files that somebody made to do harm, or that a disk has damaged: refused at load, in one line that says what is wrong."""

import json
import os
from dataclasses import replace
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from conftest import make_frames
from h5_edits import edited

import mlpot
from mlpot.data import h5_copy
from mlpot.errors import DataError, ModelFileError, StructureError, quoted
from mlpot.neighbours import find_pairs
from mlpot.report.fit_report import write_fit_report

TERMS = [
    {"type": "pair", "cutoff": 4.0, "n_sparse": 6},
    {
        "type": "soap", "cutoff": 3.5, "n_max": 3, "l_max": 2, "n_sparse": 6, "zeta": 2, "mix": "both", "n_channels": 3,
        "order": 3, "order_l_max": 2, "order_channels": 2,
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def small():
    return mlpot.fit(make_frames(2, (14, 32)), mlpot.FitConfig(terms=TERMS, check_labels=False))


@pytest.fixture
def file(small, tmp_path):
    small.save(tmp_path / "m.h5")
    return tmp_path / "m.h5"


@pytest.fixture(scope="module")
def small_fit():
    frames = make_frames(2, (14, 32))
    fit = mlpot.Fit(mlpot.FitConfig(terms=TERMS, check_labels=False), (14, 32))
    fit.update(frames, fit.propose(frames))
    return fit


@pytest.fixture
def fit_file(small_fit, tmp_path):
    small_fit.save(tmp_path / "fit.h5")
    return tmp_path / "fit.h5"


def refused(file, match, load=mlpot.load_model):
    with pytest.raises(ModelFileError, match=match) as caught:
        load(file)
    assert "\n" not in str(caught.value) and file.name in str(caught.value)
    assert len(str(caught.value)) < 600


def put(h5, name, array):
    del h5[name]
    h5[name] = array


def with_value(array, value):
    array = array.copy()
    array.ravel()[-1] = value
    return array


def test_a_flipped_bit(file, fit_file):
    for path, load in ((file, mlpot.load_model), (fit_file, mlpot.Fit.load)):
        data = bytearray(path.read_bytes())
        for place in (14, 600, len(data) // 2, len(data) - 9):
            data[place] ^= 4
            path.write_bytes(data)
            refused(path, "sha256|not as an HDF5", load)
            data[place] ^= 4
        path.write_bytes(data)
        load(path)


def test_files_without_a_checksum_are_those_of_older_versions(small, file):
    file.write_bytes(file.read_bytes()[512:])
    np.testing.assert_array_equal(mlpot.load_model(file).weights, small.weights)


def test_hdf5_may_crash_on_an_unsealed_file_or_never_end(file, monkeypatch):
    """In a process of its own: both are errors of the file."""
    file.write_bytes(file.read_bytes()[512:])
    for happens, match in (
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "HDF5 fails to read it and ends with SIGSEGV"),
        ("import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass", "ends with SIG(XCPU|KILL)"),
        ("import sys; sys.exit('no module')", "could not be copied: .?no module"),
    ):
        monkeypatch.setattr(h5_copy, "COMMAND", happens)
        with pytest.raises(ModelFileError, match=match):
            mlpot.load_model(file)


def test_the_same_model_gives_the_same_bytes(small, file, tmp_path):
    small.save(tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    "name, change, match",
    [
        ("terms/1/contractions/shares", lambda a: np.repeat(a, 3, axis=0), "degrees"),
        ("terms/1/contractions/shares", lambda a: a[:, :, :-1], "shape"),
        ("terms/1/contractions/order", lambda a: np.array(9), "between 3 and 4"),
        ("terms/1/reduction/a", lambda a: with_value(a, 99), "reduction/a = 99"),
        ("terms/1/reduction/b", lambda a: with_value(a, -1), "reduction/b = -1"),
        ("terms/1/reduction/weights", lambda a: a[:, :1], "shape"),
        ("terms/1/sparse/0", lambda a: with_value(a, np.nan), "sparse/0 = nan"),
        ("terms/1/sparse/0", lambda a: a[:, :-1], "shape"),
        ("terms/0/sparse/1", lambda a: with_value(a, np.inf), "sparse/1 = inf"),
        ("weights", lambda a: a[:-1], "weights: has shape"),
        ("weights", lambda a: with_value(a, 1e200), "weights = 1e.200"),
        ("weights", lambda a: a.astype(np.float32), "type float32"),
        ("weights", lambda a: np.zeros(len(a), [("x", float), ("y", float)]), "type"),
        ("factor", lambda a: a[:-1], "factor: has shape"),
        ("factor", lambda a: 0 * a, "zero on its diagonal"),
        ("factor", lambda a: a * 1e-300, "no predictions can be made"),
    ],
)
def test_arrays_that_do_not_fit(file, name, change, match):
    with edited(file) as h5:
        put(h5, name, change(h5[name][()]))
    refused(file, match)


def test_features_out_of_range(file):
    with edited(file) as h5:
        h5["terms/1/contractions/kept"] = np.array([0, 10**6])
    refused(file, "contractions/kept = 1000000")


@pytest.mark.parametrize(
    "path, value, match",
    [
        (("species",), [14, 300], "species.1 = 300"),
        (("species",), [32, 14], "sorted"),
        (("terms", 0, "cutoff"), 1e9, "cutoff = 1000000000"),
        (("terms", 0, "cutoff"), float("nan"), "cutoff = nan"),
        (("terms", 0, "cutoff_width"), -1.0, "cutoff_width = -1"),
        (("terms", 0, "length_scale"), 1e-9, "too short"),
        (("terms", 0, "unknown"), 1, "unknown"),
        (("terms", 1, "descriptor", "basis", "n_max"), 10**9, "n_max = 1000000000"),
        (("terms", 1, "descriptor", "basis", "l_max"), 10**6, "l_max = 1000000"),
        (("terms", 1, "descriptor", "basis", "l_max"), "6", "l_max = '6'"),
        (("terms", 1, "zeta"), 1e9, "zeta"),
        (("baseline", "isolated_atom_energies"), {}, "atomic number 14"),
        (("calibration", "force_scale"), float("inf"), "force_scale"),
        (("provenance",), None, "provenance"),
        (("\x1b[31m" + 500 * "x",), 1, r"x1b\[31m"),
    ],
)
def test_headers_that_cannot_be(file, path, value, match):
    with edited(file) as h5:
        header = json.loads(h5.attrs["header"])
        place = header
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        h5.attrs["header"] = json.dumps(header)
    refused(file, match)


def test_nothing_outside_of_the_file_is_read(file, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(8 * 1000))
    good = file.read_bytes()
    with h5py.File(file, "r") as h5:
        n = len(h5["weights"])

    def external(h5):
        h5.create_dataset("weights", (n,), float, external=[(str(tmp_path / "secret"), 0, 8 * n)])

    def virtual(h5):
        layout = h5py.VirtualLayout((n,), float)
        layout[:] = h5py.VirtualSource(str(file), "terms/0/sparse/0", (n,))
        h5.create_virtual_dataset("weights", layout)

    def chunked(h5):
        h5.create_dataset("weights", (n,), float, compression="gzip")

    def never_written(h5):
        h5.create_dataset("weights", (n,), float)

    def huge(h5):
        h5.create_dataset("weights", (2**50,), float)

    changes = [
        (lambda h5: h5.__setitem__("weights", h5py.SoftLink("/terms/0/sparse/0")), "SoftLink"),
        (lambda h5: h5.__setitem__("weights", h5py.ExternalLink("/etc/passwd", "/x")), "ExternalLink"),
        (lambda h5: h5.__setitem__("weights", np.dtype("f8")), "neither"),
        (external, "another file"), (virtual, "virtual"), (chunked, "compressed"), (never_written, "stored"), (huge, "stored"),
    ]  # fmt: skip
    for change, match in changes:
        file.write_bytes(good)
        with edited(file) as h5:
            del h5["weights"]
            change(h5)
        refused(file, match)
    file.write_bytes(good)
    with edited(file) as h5:
        h5["terms/2/loop"] = h5["terms"]
    refused(file, "no such thing|unknown")


def test_data_sets_that_nobody_asked_for(file):
    with edited(file) as h5:
        h5["terms/7/sparse/0"] = np.zeros(3)
    refused(file, "terms/7/sparse/0")


@pytest.mark.parametrize(
    "name, change, match",
    [
        ("numbers", lambda a: with_value(a, 400), "numbers = 400"),
        ("numbers", lambda a: with_value(a, 6), "numbers = 6"),
        ("n_atoms", lambda a: with_value(a, -5), "n_atoms = -5"),
        ("positions", lambda a: with_value(a, np.nan), "positions = nan"),
        ("cells", lambda a: 0.03 * a, "neighbours per atom within"),
        ("energies", lambda a: with_value(a, np.inf), "energies = inf"),
        ("group_of", lambda a: with_value(a, 77), "group_of = 77"),
        ("factor_1", lambda a: -a, "factor_1"),
        ("rows_0", lambda a: a[:-1], "rows_0: has shape"),
        ("gram_0", lambda a: a[:-1], "gram_0: has shape"),
        ("right", lambda a: a[:, :-1], "right: has shape"),
        ("points/1/0", lambda a: 1e6 * a, "points/1/0"),
        ("tables/1/reduction/a", lambda a: with_value(a, 10**6), "reduction/a = 1000000"),
    ],
)
def test_fits_that_do_not_fit(fit_file, name, change, match):
    with edited(fit_file) as h5:
        put(h5, name, change(h5[name][()]))
    refused(fit_file, match, mlpot.Fit.load)


def test_atoms_that_have_collapsed_are_an_error_before_memory_is_gone():
    frames = make_frames(1)
    tiny = frames[0][:1].copy()
    tiny.set_cell(0.3 * np.eye(3))
    with pytest.raises(StructureError, match="more than 5000 neighbours per atom within 12 A of 1 atom in"):
        find_pairs(tiny, 12.0)
    cloud = frames[0].copy() * (6, 6, 6)
    cloud.set_cell(cloud.cell.array / 12, scale_atoms=True)
    with pytest.raises(StructureError, match="neighbours per atom"):
        find_pairs(cloud, 6.0)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x1", "..", "a/b", "x\x1b", ""])
def test_sparse_points_lie_beside_the_xml(name, tmp_path):
    from text_targets import make_gap

    make_gap(tmp_path)
    xml = tmp_path / "gp.xml"
    element = ElementTree.fromstring(xml.read_text())
    element.find(".//gpCoordinates").set("sparseX_filename", name)
    text = ElementTree.tostring(element, encoding="unicode").replace("\x1b", "&#9;")
    xml.write_text(text)
    with pytest.raises(ModelFileError, match="plain name of a file next to the XML"):
        mlpot.read_gap(xml)


def test_sparse_points_are_a_regular_file_of_the_expected_size(tmp_path):
    from text_targets import make_gap

    make_gap(tmp_path)
    sparse = tmp_path / "x1"
    sparse.write_text("secret of the machine " * 100)
    with pytest.raises(ModelFileError, match="bytes long, at most 256"):
        mlpot.read_gap(tmp_path / "gp.xml")
    sparse.write_text("y" * 250)
    with pytest.raises(ModelFileError) as caught:
        mlpot.read_gap(tmp_path / "gp.xml")
    assert "y" * 50 in str(caught.value) and "y" * 60 not in str(caught.value)
    sparse.unlink()
    os.mkfifo(sparse)
    with pytest.raises(ModelFileError, match="not a regular file"):
        mlpot.read_gap(tmp_path / "gp.xml")
    sparse.unlink()
    sparse.symlink_to("/dev/zero")
    with pytest.raises(ModelFileError, match="not a regular file"):
        mlpot.read_gap(tmp_path / "gp.xml")


@pytest.mark.parametrize(("text", "match"), [
    ("99999999999999999999\nenergy=1\nH 0 0 0\n", "where the number of atoms should be"),
    ("1\nenergy=1\nH 0 0 0\n3000000000\nenergy=1\nH 0 0 0\n", "ends within this frame"),
    ("1\nProperties=species:S:1:pos:R:399999999999999999999 energy=1\nH 0 0 0\n", "from 0 to 10000 columns"),
])  # fmt: skip
def test_counts_of_atoms_and_columns_that_no_file_has(tmp_path, text, match):
    """ASE alone would loop over them for years."""
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(DataError, match=rf"a\.xyz.*{match}"):
        mlpot.read(tmp_path / "a.xyz")


def test_labels_are_real():
    atoms = make_frames(1)[0]
    atoms.calc.results["forces"] = atoms.calc.results["forces"] + 1e-3j
    with pytest.raises(DataError, match="forces holds complex numbers"):
        mlpot.fit([atoms], mlpot.FitConfig(terms=TERMS))


def test_markup_stays_text(small, tmp_path):
    bad = "</pre><script>alert(1)</script>"
    config = mlpot.FitConfig.model_validate({**small.config.model_dump(), "config_type_noise": {bad: {}}})
    report = replace(small.report, residuals={bad: next(iter(small.report.residuals.values()))})
    write_fit_report(replace(small, config=config, report=report), None, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_messages_cannot_steer_a_terminal():
    assert str(ModelFileError("a\x1b[2Jb\rc\u202ed")) == "a\\x1b[2Jb\\rc\\u202ed"
    assert quoted("x" * 500) == "'" + 56 * "x" + "..."
    assert quoted("two\nlines") == "'two\\nlines'"
