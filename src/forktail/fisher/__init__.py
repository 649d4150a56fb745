"""Second moments of per-image gradients, for every parameter: what the selection criterion is computed from."""
