"""Doors to simulation codes: units and signs are converted here, nothing else."""
