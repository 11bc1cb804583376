"""`python -m mlpot`."""

from .cli import main

main()
