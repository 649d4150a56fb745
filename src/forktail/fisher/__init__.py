"""Second moments of per-image gradients, for every parameter: what the selection criterion is computed from."""

from forktail.fisher.coupled import refined_criterion
from forktail.fisher.diagonal import Fisher, fisher, fisher_by_group
from forktail.fisher.gram import grams

__all__ = ["Fisher", "fisher", "fisher_by_group", "grams", "refined_criterion"]
