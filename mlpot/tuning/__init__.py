"""Search for settings of models: `mlpot tune`."""
