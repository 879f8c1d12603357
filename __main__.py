"""The command line as a program: ``neuronlake``, or ``python -m neuronlake``."""

from .cli import main


def run() -> None:
    """Run the command line as what this process is for."""
    main.is_program = True
    main(prog_name="neuronlake")


if __name__ == "__main__":
    run()
