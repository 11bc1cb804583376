"""`python -m mlpot`."""

from .commands.main import main

if __name__ == "__main__":
    main()
