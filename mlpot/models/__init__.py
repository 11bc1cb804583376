"""Sparse Gaussian-process models: terms, fit, prediction, files."""
