"""How the pictures of `glyphs` and `symbols` are drawn: fonts, distortions, stripes, and which characters are twins."""
