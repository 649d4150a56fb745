"""Losses per image, one file each, named as its class: ``forktail.losses.balanced_bce.BalancedBCE``."""
