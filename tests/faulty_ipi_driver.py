"""The command line, with a model that fails as the environment says, from force call MLPOT_FAULT_FROM (0) on.

MLPOT_FAULT: "sleep" for MLPOT_FAULT_SECONDS, "compute" in compiled code for longer than any test, or "nan". Every such call
leaves a line in the file MLPOT_FAULT_SAYS before it begins.
"""

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path

from mlpot.commands.main import main
from mlpot.drivers.ipi_evaluator import ModelEvaluator

FAULT, FROM = os.environ.get("MLPOT_FAULT"), int(os.environ.get("MLPOT_FAULT_FROM", "0"))


class FaultyEvaluator(ModelEvaluator):
    n_calls = 0

    def evaluate(self, beads, request=None):
        self.n_calls += 1
        if self.n_calls <= FROM:
            return super().evaluate(beads, request)
        with Path(os.environ["MLPOT_FAULT_SAYS"]).open("a") as file:
            file.write(f"call {self.n_calls}\n")
        if FAULT == "sleep":
            time.sleep(float(os.environ["MLPOT_FAULT_SECONDS"]))
        elif FAULT == "compute":
            hashlib.pbkdf2_hmac("sha256", b"x", b"x", 10**9)
        found = super().evaluate(beads, request)
        if FAULT == "nan":
            found = [replace(found[0], forces=found[0].forces * float("nan")), *found[1:]]
        return found


if __name__ == "__main__":
    if FAULT:
        import mlpot.drivers.ipi_evaluator

        mlpot.drivers.ipi_evaluator.ModelEvaluator = FaultyEvaluator
    main()
