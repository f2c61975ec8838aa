"""What the commands share."""

import signal
import sys

import click

# The exit code after SIGTERM, as of a process that it ends: 128 + 15.
TERMINATED = 143


def stop_at_sigterm(how_to_go_on: str) -> None:
    """Let SIGTERM end the command in an orderly way, with a line that says how to go on."""

    def stop(*_: object) -> None:
        click.echo(f"stopped by SIGTERM; {how_to_go_on}", err=True)
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, stop)
