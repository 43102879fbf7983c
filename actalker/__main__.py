"""`python -m actalker`."""

from actalker.cli import main

main()
