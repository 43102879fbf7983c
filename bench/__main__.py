"""`python -m bench` is the `bench` command."""

import sys


def main() -> None:
    """Run the command line; a Ctrl-C while it is still loading ends it quietly."""
    try:
        from bench.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
