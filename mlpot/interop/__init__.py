"""Potentials of other programs, read into models."""
