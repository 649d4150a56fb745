"""Backbones as chains of layers, and networks that fork at a depth; see ``open_backbone`` and ``Forked``."""
