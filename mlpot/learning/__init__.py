"""Learning while a simulation runs: the learner decides, the runner acts, the store remembers."""
