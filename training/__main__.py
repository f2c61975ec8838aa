"""`python -m training COMMAND`."""

from training.cli import main

main()
