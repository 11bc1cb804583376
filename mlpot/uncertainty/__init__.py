"""Uncertainty of predictions: posterior variances, calibration, ensembles."""
