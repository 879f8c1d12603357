"""Run the command line: ``python -m neuronlake``."""

from .cli import main

if __name__ == "__main__":
    main()
