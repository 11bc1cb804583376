"""Compiled extensions."""
