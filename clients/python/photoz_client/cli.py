"""The command `photoz`. Its subcommands are imported at first use, so that help and completion are quick."""

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click
from click.shell_completion import CompletionItem

from photoz import __version__
from photoz.cli.command import Group
from photoz.errors import UnsupportedType

ENTRY_POINTS = "photoz.commands"  # the group of the commands of other packages

# The commands by task, with the first line of their help.
COMMANDS = {
    "Redshifts": {
        "predict": "Estimate the redshifts of cutouts, with or without a service.",
        "evaluate": "Score the redshifts of cutouts against true ones.",
        "inspect": "Say what a file of cutouts is taken for, without predicting.",
        "score": "Estimate the redshifts of whole surveys, without a service.",
        "nz": "Stack the PDFs of a survey to n(z) of tomographic bins.",
        "sky": "Cut galaxies out of the images of an archive.",
    },
    "Services": {
        "wait": "Wait until the service is ready to predict.",
        "model": "Describe the model of the service.",
        "compare": "Compare the predictions of two services.",
    },
}
HELP = {name: text for commands in COMMANDS.values() for name, text in commands.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with arguments, by default those of the process, and exit as `photoz.cli.command.Group` says."""
    photoz(arguments, prog_name="photoz")


class _Commands(Group):
    """The client's own commands, and those of other packages, by entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(HELP)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if entry := _entry_point(cmd_name):
            try:
                command: click.Command = entry.load()
            except ModuleNotFoundError as error:
                if ctx.resilient_parsing:  # for completion, which prints no errors
                    return None
                raise _missing_package(entry, error) from error
            return command
        from photoz_client import _cli_commands

        return getattr(_cli_commands, cmd_name) if cmd_name in HELP else None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if entry := _entry_point(str(ctx.invoked_subcommand)):
                raise _missing_package(entry, error) from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for task, commands in COMMANDS.items():
            with formatter.section(task):
                formatter.write_dl(list(commands.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name, help=text) for name, text in HELP.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def _entry_point(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=ENTRY_POINTS, name=name)), None)


def _missing_package(entry: EntryPoint, error: ModuleNotFoundError) -> UnsupportedType:
    package = str(error.name).partition(".")[0]
    return UnsupportedType(
        f"photoz {entry.name} needs {package}: install it with pip install 'photoz[{entry.extras[0]}]'"
    )


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="photoz")
def photoz() -> None:
    """Estimate redshifts of galaxies from their images with a photo-z service."""
