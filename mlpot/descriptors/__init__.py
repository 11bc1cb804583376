"""Maps from neighbour pairs to features, and back for gradients."""
