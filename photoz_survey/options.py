"""What the commands share."""

import signal
import sys
from collections.abc import Callable
from typing import Any

import click

# The exit code after SIGTERM, as of a process that it ends: 128 + 15.
TERMINATED = 143

Callback = Callable[[click.Context, click.Parameter, Any], Any]


def parsed_by(parse: Callable[[Any], Any]) -> Callback:
    """Return a callback by which an option's value is what a function makes of it; its `ValueError` is refused."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def stop_at_sigterm(how_to_go_on: str) -> None:
    """Let SIGTERM end the command in an orderly way, with a line that says how to go on."""

    def stop(*_: object) -> None:
        click.echo(f"stopped by SIGTERM; {how_to_go_on}", err=True)
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, stop)
