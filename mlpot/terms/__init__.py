"""The parts a model is made of: kernels, sparse points, their compiled forms, and the baseline beneath them."""
