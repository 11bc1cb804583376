"""User settings of a model, its fit and its run, each declared once."""
