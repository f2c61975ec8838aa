"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from photoz.images import parse_bands
from photoz.io.tables import parse_quantiles

Callback = Callable[[click.Context, click.Parameter, Any], Any]
F = TypeVar("F", bound=Callable[..., Any])

SELECT = "Use only the galaxies that meet these conditions, such as"
WORKERS = "Processes.  [default: one for each core]"


def parsed_by(parse: Callable[[Any], Any]) -> Callback:
    """Return a click callback that parses the value; `ValueError` becomes `click.BadParameter`."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return callback


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

quantiles_option = click.option(
    "--quantiles",
    default="",
    callback=parsed_by(parse_quantiles),
    help="Write these quantiles of the PDFs, such as 0.05,0.16,0.5,0.84,0.95.",
)

OVERWRITE = "photoz.overwrite"  # in `click.Context.meta`


def _allow_overwriting(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[OVERWRITE] = value


overwrite_option = click.option(
    "--overwrite",
    is_flag=True,
    is_eager=True,  # before the options with names of files
    expose_value=False,
    callback=_allow_overwriting,
    help="Replace files that exist.",
)


def refuse_existing(path: Path | None) -> None:
    """Raise `click.UsageError` if the running command would replace a file without `--overwrite`."""
    if (
        path is not None
        and (path.is_file() or path.is_symlink())
        and not click.get_current_context().meta.get(OVERWRITE)
    ):
        raise click.UsageError(f"{path} exists: choose another name, or replace it with --overwrite")


def _names(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


IMAGE_OPTIONS = (
    click.option(
        "--bands",
        default="",
        callback=parsed_by(parse_bands),
        help="Bands of the images in order, such as ugriz or u,g,r,i,z, if the files do not say.",
    ),
    click.option(
        "--zero-point", type=float, help="AB magnitude of a pixel with the value 1, if the files do not say the unit."
    ),
    click.option(
        "--override",
        is_flag=True,
        help="Let --bands and --zero-point replace what the files say, which is refused else.",
    ),
    click.option(
        "--resample",
        is_flag=True,
        help="Resample cutouts whose pixels have another scale than those of the model; the estimates get a flag.",
    ),
    click.option(
        "--at",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Catalogue with ra and dec: cut its galaxies out of the large FITS images given instead of cutouts.",
    ),
    click.option(
        "--hdu",
        multiple=True,
        metavar="NAME",
        callback=parsed_by(_names),
        help="HDUs of FITS files that hold the images, by name or number: 1 or SCI,MASK. Weights and masks among them "
        "are applied.",
    ),
    click.option(
        "--column",
        multiple=True,
        metavar="NAME",
        callback=parsed_by(_names),
        help="Column, array or dataset that holds the images, such as group/images; several for a FITS table.",
    ),
    click.option("--ebv", type=float, help="E(B-V) in mag for all cutouts, instead of the column of the files."),
)


def image_options(command: F) -> F:
    """Add an option for each field of `photoz.io.options.ReadOptions`."""
    for option in reversed(IMAGE_OPTIONS):
        command = option(command)
    return command
