"""Base classes of the commands: help with examples, errors on one line, exit codes."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from photoz.cli.printing import show
from photoz.errors import PhotozError, printable

FAILED, INTERRUPTED = 1, 130  # the second by Ctrl-C, as in a shell: 128 + SIGINT
HELP: Any = {"help_option_names": ["-h", "--help"]}  # click keeps those of the first call


class Command(click.Command):
    """A command whose help ends with examples: command lines as a user types them."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples, self.context_settings = examples, HELP | self.context_settings

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each example on one line, so that it can be copied."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Group(click.Group):
    """A group of commands with examples; a user's mistake ends them with one line on standard error."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings = HELP | self.context_settings

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and exit with 0, 1 after a failure, 2 after wrong usage, or the command's own status."""
        try:
            return super().main(*args, **kwargs)
        except (PhotozError, OSError) as error:
            show(f"Error: {' '.join(str(error).split())}", err=True)
            sys.exit(FAILED)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; exit with 130 after Ctrl-C, where click would exit with 1."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:  # it may name a file
            error.message = printable(error.message)  # type: ignore[misc]
            raise
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
