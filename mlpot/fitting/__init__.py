"""From labelled structures to weights: design matrix, least squares, evidence, selection of sparse points."""
