"""Pages that a person reads: one for a run, one for a comparison, each a single file without a network."""
