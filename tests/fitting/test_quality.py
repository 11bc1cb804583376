"""What a fit says of itself: errors against the spread of the labels, by hand, and the remedy that comes first."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import NOISES, SMALL_TERMS, make_frames

import mlpot
from mlpot.fitting.quality import judgement, label_quality, spreads
from mlpot.models.evaluate import Comparison
from mlpot.models.report import Errors, FitReport, LabelQuality
from mlpot.structures import all_labelled
from mlpot.units import GIGAPASCAL

CONFIG = mlpot.FitConfig(terms=SMALL_TERMS, **NOISES)
PRESET = mlpot.FitConfig(preset="fast")


@pytest.fixture(scope="module")
def model():
    return mlpot.fit(make_frames(12), CONFIG)


def quality(training, left_out, n_left_out=40, **more):
    values = {"worst": "a.xyz[3]", "worst_share": 0.1, "others": left_out} | more
    return LabelQuality("forces", 1.0, training, left_out, n_left_out, **values)


def said(report, found, config=PRESET, test=None):
    return judgement(replace(report, quality=[found], n_bound=40), config, test)


def test_spreads_by_hand():
    structures = all_labelled(make_frames(5, (14, 32)))
    found = spreads(structures)
    shares = np.array([[np.mean(s.atoms.numbers == z) for z in (14, 32)] for s in structures])
    per_atom = np.array([s.energy / s.n_atoms for s in structures])
    rest = per_atom - shares @ np.linalg.lstsq(shares, per_atom, rcond=None)[0]
    assert found["energy"] == pytest.approx(1000 * np.sqrt(np.mean(rest**2)))
    assert found["forces"] == pytest.approx(np.sqrt(np.mean([s.forces**2 for s in structures])))
    stresses = np.array([s.atoms.get_stress(voigt=False) for s in structures])
    assert found["stress"] == pytest.approx(np.sqrt(np.mean(np.var(stresses, axis=0))) / GIGAPASCAL)


def test_the_composition_is_no_spread():
    structures = all_labelled(make_frames(5))
    shifted = [replace(s, energy=s.energy + 100.0 * s.n_atoms) for s in structures]
    assert spreads(shifted)["energy"] == pytest.approx(spreads(structures)["energy"], rel=1e-6)


def test_kinds_that_do_not_vary_or_are_not_there_are_left_out():
    (one,) = all_labelled(make_frames(1, stress=False))
    assert set(spreads([one])) == {"forces"}
    assert set(spreads([replace(one, forces=None)])) == set()


def test_numbers_of_a_fit(model):
    found = {q.kind: q for q in model.report.quality}
    assert set(found) == {"energy", "forces", "stress"} and model.report.n_bound == 12
    assert found["forces"].spread == pytest.approx(spreads(all_labelled(make_frames(12)))["forces"])
    assert found["forces"].training < found["forces"].left_out and found["forces"].n_left_out == 12
    everything = [e.force_rmse_ev_per_ang for e in model.report.residuals.values()]
    assert min(everything) <= found["forces"].training <= max(everything)
    assert FitReport.from_dict(model.report.to_dict()) == model.report


def test_the_worst_structures_are_named():
    structures = all_labelled(make_frames(20))
    comparisons = [Comparison(s, None, np.full((s.n_atoms, 3), 0.1), None, None, None) for s in structures]
    comparisons[7] = replace(comparisons[7], forces=np.full((structures[7].n_atoms, 3), 2.0))
    (found,) = label_quality(comparisons, comparisons)
    assert found.worst == structures[7].name and found.others == pytest.approx(0.1)
    assert found.worst_share == pytest.approx(4 / (4 + 19 * 0.01))


def test_numbers_are_against_the_spread(model):
    line, _ = said(model.report, quality(0.05, 0.08))
    assert line == "forces: good; RMS errors for a spread of 1 eV/A: left out 0.08 (8.0%), training 0.05 (5.0%)"
    bounds = ((0.0299, "very good"), (0.0301, "good"), (0.0999, "good"), (0.1001, "fair"), (0.1999, "fair"), (0.2001, "rough"))
    for error, word in (*bounds, (0.3999, "rough"), (0.4001, "poor")):
        assert said(model.report, quality(0.01, error))[0].startswith(f"forces: {word};")


def test_a_very_good_fit_needs_nothing(model):
    assert said(model.report, quality(0.01, 0.02))[1].startswith("if this is not accurate enough: what helps most: more data")


def test_more_data_where_most_of_the_error_is_of_what_was_not_seen(model):
    remedy = said(model.report, quality(0.02, 0.1))[1]
    assert remedy.startswith("what helps most: more data: twice as much") and "about 0.06 eV/A" in remedy
    assert "rule of thumb" in remedy


@pytest.mark.parametrize(
    "config, remedy",
    [
        (PRESET, 'preset = "balanced"'),
        (mlpot.FitConfig(), 'preset = "accurate"'),
        (mlpot.FitConfig(preset="accurate"), "tuning (tune = true in [fit], a longer cutoff)"),
        (mlpot.FitConfig(terms=SMALL_TERMS), "another model"),
    ],
)
def test_another_model_where_what_was_seen_is_not_explained(model, config, remedy):
    line = said(model.report, quality(0.095, 0.1), config)[1]
    assert line.startswith(f"what helps most: {remedy}") and "below 0.095 eV/A" in line


def test_both_in_between(model):
    line = said(model.report, quality(0.08, 0.1))[1]
    assert line.startswith("what helps: more data") and line.endswith('or preset = "balanced"')


@pytest.mark.parametrize("noise, training", [(1.0, 0.095), (0.001, 0.03)])
def test_tuning_where_a_given_noise_is_in_the_way(model, noise, training):
    config = mlpot.FitConfig(preset="fast", force_noise=noise)
    line = said(model.report, quality(training, 0.1), config)[1]
    assert line.startswith(f"what helps most: tuning; force_noise = {noise:g} is far") and "leave force_noise out" in line
    followed = mlpot.FitConfig(preset="fast", force_noise=noise, adapt=("force_noise",))
    assert "tuning;" not in said(model.report, quality(training, 0.1), followed)[1]


def test_a_few_structures_may_have_all_the_error(model):
    line = said(model.report, quality(0.02, 0.1, worst_share=0.8, others=0.03))[1]
    assert line.startswith("what helps most: more structures like a.xyz[3]; 2 of 40 left-out structures have 80%")
    assert "more data" in said(model.report, quality(0.02, 0.1, n_left_out=8, worst_share=0.8))[1]
    ten, nine = (said(model.report, quality(0.1, 0.11, n, worst_share=0.6))[1] for n in (10, 9))
    assert "more structures like" in ten and "more structures like" not in nine


def test_a_test_set_of_another_kind(model):
    test = Errors(5, 100, None, None, 0.2, 0.3, None)
    lines = said(model.report, quality(0.05, 0.1), test=test)
    assert lines[0].startswith("forces: rough;") and "test 0.3 (30.0%)" in lines[0]
    assert "3.0 times the leave-out errors" in lines[-1] and "add structures like them" in lines[-1]
    assert len(said(model.report, quality(0.05, 0.1), test=replace(test, force_rmse_ev_per_ang=0.12))) == 2


def test_one_structure_is_no_data_set(caplog):
    with caplog.at_level(logging.WARNING, "mlpot"):
        single = mlpot.fit(make_frames(1), mlpot.FitConfig(terms=SMALL_TERMS[:1], **NOISES))
    assert any(message.startswith("fit to a single structure") for message in caplog.messages)
    (line,) = judgement(single.report, CONFIG)
    assert "cannot be assessed from a single structure" in line
    caplog.clear()
    with caplog.at_level(logging.WARNING, "mlpot"):
        two = mlpot.fit(make_frames(2), mlpot.FitConfig(terms=SMALL_TERMS[:1], **NOISES))
    assert not any("single structure" in message for message in caplog.messages) and two.report.quality


def test_reports_of_earlier_versions_say_nothing(model):
    old = {key: value for key, value in model.report.to_dict().items() if key not in ("quality", "n_bound")}
    assert judgement(FitReport.from_dict(old), CONFIG) == []


def test_isolated_atoms_alone_are_no_data_set(caplog):
    alone = Atoms("Si")
    alone.calc = SinglePointCalculator(alone, energy=-1.0)
    with caplog.at_level(logging.WARNING, "mlpot"):
        found = mlpot.fit([alone], mlpot.FitConfig(terms=SMALL_TERMS, **NOISES))
    assert "fit to isolated atoms only" in caplog.text
    assert "cannot be assessed from isolated atoms only" in judgement(found.report, CONFIG)[0]
