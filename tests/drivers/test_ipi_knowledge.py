"""A driver with a fixed model says when a simulation leaves what the model knows, and not more than once a minute."""

import logging

from conftest import make_frames

from mlpot.drivers.ipi_evaluator import ModelEvaluator
from mlpot.drivers.knowledge import PAUSE, Watch, beyond


def squeezed(atoms):
    strange = atoms.copy()
    strange.set_cell(0.8 * atoms.cell.array, scale_atoms=True)
    return strange


def test_known_structures_are_not_talked_about(model, caplog):
    evaluator = ModelEvaluator(model)
    for atoms in make_frames(3):
        p = model.predict(atoms, uncertainty=True)
        if beyond(p) is None:
            evaluator.evaluate([atoms])
    assert not caplog.records


def test_strange_ones_are(model, caplog):
    strange = squeezed(make_frames(1)[0])
    assert "novelty of atom" in beyond(model.predict(strange, uncertainty=True))
    with caplog.at_level(logging.WARNING):
        evaluator = ModelEvaluator(model)
        evaluator.evaluate([strange] * 5)
        evaluator.evaluate([strange])
    (record,) = caplog.records
    assert record.getMessage().startswith("beyond what the model knows: the novelty of atom")
    assert "learn.toml" in record.getMessage()


def test_once_a_minute(model, caplog):
    now = [0.0]
    watch, strange = Watch(clock=lambda: now[0]), model.predict(squeezed(make_frames(1)[0]), uncertainty=True)
    plain = model.predict(make_frames(1)[0])
    with caplog.at_level(logging.WARNING):
        for seconds in (0.0, 1.0, PAUSE - 1.0, PAUSE + 1.0, PAUSE + 2.0):
            now[0] = seconds
            watch.look(strange)
            watch.look(plain)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and "1 of the last 1 structures" in said[0] and "3 of the last 6 structures" in said[1]


def test_a_prediction_without_uncertainty_has_nothing_to_say(model):
    assert beyond(model.predict(make_frames(1)[0])) is None
