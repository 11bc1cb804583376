"""Parts of a model: terms with their kernels and sparse points, compiled terms, and the baseline."""
