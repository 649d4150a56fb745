"""How the pictures of `glyphs` and `symbols` are drawn: fonts, random distortions, and which characters are twins."""
