"""What the tests of beads share: a server's steps with a potential that costs nothing."""

from learning_runs import campaign, crystal

from mlpot.learning.checkpoints import RunSettings
from mlpot.learning.log_format import LOG
from mlpot.learning.policy import Rules
from mlpot.learning.served_run import LearningEvaluator

N_BEADS = 3
STRICT = Rules(target=0.005)
LOOSE = Rules(threshold=1e3, target_energy=1e3, check_interval="off")
"""Only novelty, and where the atoms of a new model have moved, asks for labels."""


def beads_of(step, n_beads=N_BEADS):
    """A ring polymer that spreads and gets warmer."""
    beads = [crystal() for _ in range(n_beads)]
    for k, atoms in enumerate(beads):
        atoms.rattle(0.004 * (step + 1) * (1 + 0.3 * k), seed=10 + k)
    return beads


class Server:
    """Asks for steps, all beads at a time or one by one, and remembers the answers."""

    def __init__(self, tmp_path, resume=False, rules=STRICT, settings=None, committee="none", **kwargs):
        self.folder, self.calls = tmp_path / "run", tmp_path / "calls"
        self.campaign = campaign(self.folder, self.calls, rules=rules, resume=resume, **kwargs)
        settings = settings or RunSettings(interval=2, checkpoint_s=1e9)
        self.evaluator = LearningEvaluator(self.campaign, crystal(), settings, committee)

    def run(self, steps, order=None, after=lambda step, found: None):
        """All beads at a time, or in the order of a step one by one."""
        with self.campaign, self.evaluator.serving():
            for step in steps:
                beads = beads_of(step)
                if order is None:
                    found = self.evaluator.evaluate(beads, 7)
                else:
                    found = [self.evaluator.evaluate([beads[k]], k)[0] for k in order(step)]
                after(step, found)

    @property
    def paid(self):
        return [line.split()[1] for line in self.calls.read_text().splitlines() if line.startswith("end")]

    @property
    def n_rows(self):
        return len((self.folder / LOG).read_text().splitlines()) - 1


def versions(found):
    return [evaluation.extras["model_version"] for evaluation in found]
