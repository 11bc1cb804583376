"""What a run has spent."""

import pytest

from mlpot.learning.checkpoints import Journal, RunSettings, Spent


@pytest.mark.parametrize(("cores", "hours", "over"), [(1, 1.0, False), (3, 1.0, False), (4, 1.0, True), (4, 1.2, False)])
def test_labels_cost_the_time_of_all_their_cores(cores, hours, over):
    """Here 1000 s of labels: 1.11 h on four cores."""
    journal = Journal(None, RunSettings(max_cpu_hours=hours, cores=cores))
    journal.spent = Spent(labels=1000.0)
    assert journal.is_out_of_time() == over
