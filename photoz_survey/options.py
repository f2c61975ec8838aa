"""What the commands' options share."""

from collections.abc import Callable
from typing import Any

import click

Callback = Callable[[click.Context, click.Parameter, Any], Any]


def parsed_by(parse: Callable[[Any], Any]) -> Callback:
    """Return a callback by which an option's value is what a function makes of it; its `ValueError` is refused."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return callback
