"""Second moments of per-image gradients, for every parameter: what the selection criterion is computed from."""

from forktail.fisher.diagonal import Fisher, fisher, fisher_by_group

__all__ = ["Fisher", "fisher", "fisher_by_group"]
