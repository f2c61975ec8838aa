"""Arguments and options that several training commands share."""

from collections.abc import Callable
from pathlib import Path

import click

from photoz.cli import options
from photoz.cli.printing import show
from training.imaging_surveys import NAMES

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
ANY_PATH = click.Path(path_type=Path)
POSITIVE = click.IntRange(min=1)

DATA, BUNDLE, RUNS, REPORTS = Path("data/sample.h5"), Path("models/photoz"), Path("runs"), Path("reports")

SURVEY_HELP = f"{', '.join(NAMES)}, or a file that describes another one."

bundle_argument = click.argument("bundle", type=ANY_PATH, default=BUNDLE)
data_argument = click.argument("data", type=EXISTING_FILE, default=DATA)
seed_option = click.option("--seed", default=0, help="Seed of the random numbers.")
batch_size_option = click.option("--batch-size", type=POSITIVE, help="Images per step.  [default: by recipe]")
figures_option = click.option(
    "--figures/--no-figures", default=True, help="Also write the figures of the report as PNG, SVG and PDF files."
)
only_f32_option = click.option(
    "--only-f32", is_flag=True, help="Compile the network in float32 only: quicker to make, slower to serve."
)
report_option = click.option(
    "--reading-report", "report", type=ANY_PATH, help="Also write to this file what was read, left out and assumed."
)


def checked_by(parse: Callable[[str], object]) -> options.Callback:
    """Return a click callback that checks a text with a function that raises `ValueError`, and keeps the text."""

    def check(text: str | None) -> str | None:
        if text:
            parse(text)
        return text

    return options.parsed_by(check)


def print_report(text: str, report: Path | None) -> None:
    """Print a report of what was read to stderr, and write it to a file if one is given."""
    show(*text.split("\n"), err=True)
    if report is not None:
        report.write_text(text + "\n", encoding="utf-8")
