"""What a learning driver asks labels for."""

from dataclasses import replace

import numpy as np
from bead_server import LOOSE, Server, beads_of
from learning_runs import crystal

from mlpot.learning.policy import LOOK


def test_a_new_model_is_looked_at_when_a_bead_has_moved(tmp_path):
    """By the distance of each bead from the labelled structures, not by steps."""
    server = Server(tmp_path, rules=LOOSE)
    with server.campaign, server.evaluator.serving():
        for _ in range(60):
            server.evaluator.evaluate(beads_of(0), 7)
        assert server.campaign.learner.n_labels == 1
        moved = beads_of(0)
        moved[1].positions[5] += [0.0, 1.3 * LOOK, 0.0]
        server.evaluator.evaluate(moved, 7)
    rows = server.campaign.source.store.rows()
    assert [row.reason for row in rows] == ["no model", "untried"]
    np.testing.assert_array_equal(rows[1].positions, moved[1].positions)


def test_the_stress_counts_where_the_cell_changes(tmp_path):
    """A server does not say whether it uses the virial; a restarted driver remembers."""
    rules = replace(LOOSE, target_stress=1e-12)
    server = Server(tmp_path, rules=rules)
    with server.campaign, server.evaluator.serving():
        for seed in range(4):
            server.evaluator.evaluate([crystal(seed)], 7)
        n_labels = server.campaign.learner.n_labels
        server.evaluator.evaluate([crystal(9)], 7)
        assert server.campaign.learner.n_labels == n_labels and not server.evaluator.wants_stress
        squeezed = crystal(9)
        squeezed.set_cell(squeezed.cell.array * 0.999, scale_atoms=True)
        server.evaluator.evaluate([squeezed], 7)
        assert server.campaign.learner.n_labels == n_labels + 1
    second = Server(tmp_path, resume=True, rules=rules)
    with second.campaign, second.evaluator.serving():
        assert second.evaluator.wants_stress
