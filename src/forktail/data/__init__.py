"""Labelled pictures: opened, checked, carved into a long tail and augmented."""
