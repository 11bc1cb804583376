"""`python -m mlpot`."""

from .cli import main

if __name__ == "__main__":
    main()
