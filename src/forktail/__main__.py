"""`python -m forktail` is the command `forktail`."""

from forktail.cli import main

main()
