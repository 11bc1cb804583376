"""The report of a fit: the table of the test set, and what its pictures show."""

import re
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from conftest import FIT_FILE, NOISES, SMALL_TERMS, make_frames
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.models.evaluate import evaluate
from mlpot.report.fit_report import write_fit_report
from mlpot.report.plots import COLOURS, GREY, family_colours, parity_figure
from mlpot.structures import all_labelled


@pytest.fixture(scope="module")
def model():
    return mlpot.fit(make_frames(6), mlpot.FitConfig(terms=SMALL_TERMS, **NOISES))


def evaluated(model, n=4, **kwargs):
    return evaluate(model, all_labelled(make_frames(n, seed=5, **kwargs)))


def test_errors_are_written_on_the_pictures(model):
    found = evaluated(model)
    energy, forces, stress = parity_figure(found.comparisons).axes[:3]
    overall = found.overall
    assert energy.texts[0].get_text() == (
        f"RMSE {overall.energy_rmse_mev_per_atom:.3g} meV/atom\nMAE {overall.energy_mae_mev_per_atom:.3g} meV/atom"
    )
    assert forces.texts[0].get_text() == (
        f"RMSE {overall.force_rmse_ev_per_ang:.3g} eV/A\nMAE {overall.force_mae_ev_per_ang:.3g} eV/A"
    )
    assert stress.get_title() == "stress / GPa" and stress.texts[0].get_text().startswith("RMSE ")


def test_every_family_has_its_colour_and_points(model):
    found = evaluated(model)
    for panel, size in zip(parity_figure(found.comparisons).axes[:3], (2, 2 * 32 * 3, 2 * 6), strict=True):
        lines = {line.get_label(): line for line in panel.lines if not line.get_label().startswith("_")}
        assert set(lines) == {"even", "odd"} and len({line.get_color() for line in lines.values()}) == 2
        assert all(len(line.get_xdata()) == size for line in lines.values())
        assert [text.get_text() for text in panel.get_legend().get_texts()] == ["even", "odd"]
    stress = parity_figure(found.comparisons).axes[2]
    odd = next(line for line in stress.lines if line.get_label() == "odd")
    own = [c.structure for c in found.comparisons if c.structure.config_type == "odd"]
    np.testing.assert_allclose(odd.get_xdata(), np.concatenate([s.atoms.get_stress() for s in own]) / 0.006241509, rtol=1e-6)


def test_one_family_needs_no_colours_and_no_stress_no_panel(model):
    comparisons = [c for c in evaluated(model, stress=False).comparisons if c.structure.config_type == "even"]
    figure = parity_figure(comparisons)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["energy / (eV/atom)", "forces / (eV/A)"]
    assert len(figure.axes) == 4 and all(axes.get_legend() is None for axes in figure.axes[:2])


def test_many_families():
    names = [f"n{k}" for k in range(20) for _ in range(20 - k)]
    colours = family_colours(names)
    assert len(set(colours.values()) - {GREY}) == len(COLOURS) - 1
    assert colours["n0"] != GREY and colours["n19"] == GREY and next(iter(colours)) == "n0"


def test_many_families_have_one_line_in_the_legend_for_the_others(model):
    (comparison,) = evaluated(model, 1).comparisons
    comparisons = [replace(comparison, structure=replace(comparison.structure, config_type=f"c{k}")) for k in range(12)]
    legend = [text.get_text() for text in parity_figure(comparisons).axes[0].get_legend().get_texts()]
    assert len(legend) == len(COLOURS) and legend.count("others") == 1


@pytest.mark.slow
def test_the_report_has_the_table_of_the_test_set(model, tmp_path):
    found = evaluated(model)
    write_fit_report(model, found, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    (rows,) = re.findall(r'<table id="test-errors">(.*?)</table>', text)
    for name in ("even", "odd", "all"):
        assert f"<td>{name}</td>" in rows
    assert f"<td>{found.overall.force_rmse_ev_per_ang:.4f}</td>" in rows
    assert "How good it is" in text and "for a spread of" in text and "test " in text
    write_fit_report(model, None, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "test-errors" not in text and "with [data] test" in text and "<img" not in text


@pytest.mark.slow
def test_the_command_writes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("train.xyz", make_frames(4), format="extxyz")
    text = FIT_FILE.format(n_sparse=10, model="m.h5").replace('"train.xyz"', '"train.xyz"\ntest = "train.xyz@2:"')
    (tmp_path / "fit.toml").write_text(text + 'report = "fit.html"\n')
    assert CliRunner().invoke(app, ["fit", "fit.toml"]).exit_code == 0
    assert 'id="test-errors"' in (tmp_path / "fit.html").read_text()
