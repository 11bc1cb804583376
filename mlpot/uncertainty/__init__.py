"""How far predictions can be trusted: posterior variances, calibration, ensembles."""
