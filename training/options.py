"""Types, defaults and checks of options that several training commands share."""

from collections.abc import Callable
from pathlib import Path

import click

from training.imaging_surveys import NAMES

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
ANY_PATH = click.Path(path_type=Path)
POSITIVE = click.IntRange(min=1)

SURVEY_HELP = f"{', '.join(NAMES)}, or a file that describes another one."

REPORT = click.option(
    "--reading-report", "report", type=ANY_PATH, help="Write what was read, left out and assumed to this file too."
)

SEED = click.option("--seed", default=0, help="Seed of the random numbers.")


def say(text: str, report: Path | None) -> None:
    """Print a report of what was read to stderr, and write it to a file if there is one."""
    click.echo(text, err=True)
    if report is not None:
        report.write_text(text + "\n", encoding="utf-8")


# Defaults that commands share.
DATA, BUNDLE, RUNS, REPORTS = Path("data/sample.h5"), Path("models/photoz"), Path("runs"), Path("reports")


def parsed_by(parse: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Return a callback that checks an option with a function that raises `ValueError`."""

    def check(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
        try:
            if text:
                parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
        return text

    return check
