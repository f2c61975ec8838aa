"""The command `photoz sky`."""

import os
import re
from pathlib import Path
from typing import Any

import click

from photoz.cli.command import Command
from photoz.cli.options import WORKERS, json_option, overwrite_option, refuse_existing
from photoz.cli.printing import show, show_json
from photoz.cli.text import text_table
from photoz.io.formats import HDF5, QP, WRITTEN_SUFFIXES, written_format
from photoz.io.tables import json_bytes
from photoz.io.writer import write_table
from photoz_survey.sky.legacy import LAYERS
from photoz_survey.terminal import stop_at_sigterm

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


def _refuse_options(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if re.match(r"-[^\d.]", word):
            raise click.NoSuchOption(word)
    return words


@click.command(
    cls=Command,
    context_settings={"ignore_unknown_options": True},  # such as negative declinations
    examples=(
        "photoz sky 150.1 2.2 -o galaxy.h5",
        "photoz sky 150.1 2.2 --score models/photoz --result redshifts.csv",
    ),
)
@click.argument("position", nargs=-1, callback=_refuse_options)
@click.option("--list", "path", type=click.Path(path_type=Path), help="A table with ra and dec, or a HATS catalogue.")
@click.option("--sql", help="Galaxies of a query to SDSS's catalogue; main-sample is that of Pasquet et al. 2019.")
@click.option("-o", "--output", type=FILE, default=Path("cutouts.h5"), show_default=True, help="Cutouts, HDF5.")
@click.option("--score", "model", metavar="BUNDLE|URL", help="Estimate redshifts by a bundle or a service.")
@click.option(
    "--result",
    type=FILE,
    help=f"Write the estimates to this file instead of printing them. Its name ends in {', '.join(WRITTEN_SUFFIXES)}.",
)
@click.option("--pdf", is_flag=True, help="Write the PDFs too.")
@overwrite_option
@json_option
@click.option(
    "--source",
    type=click.Choice(["sdss", *LAYERS]),
    default="sdss",
    show_default=True,
    help="Frames of SDSS, or a layer of the Legacy Surveys.",
)
@click.option(
    "--size", type=click.IntRange(8, 1024), help="Side of the cutouts in pixels.  [default: the model's, or 64]"
)
@click.option("--sfd", type=FOLDER, help="Folder of the SFD maps: E(B-V) where it is unknown.")
@click.option("--archive", help="Address of the images.  [default: that of the source]")
@click.option("--catalogue", help="Address of SDSS's catalogue.  [default: that of astroquery]")
@click.option(
    "--cache",
    type=FOLDER,
    default=Path.home() / ".cache" / "photoz" / "sky",
    help="Folder of the archive's files.  [default: ~/.cache/photoz/sky]",
)
@click.option("--cache-gb", type=click.FloatRange(min=0), default=20.0, show_default=True, help="Size of that folder.")
@click.option("--offline", is_flag=True, help="Download nothing.")
@click.option("--refresh", is_flag=True, help="Ask the catalogue again for what it answered in the last 30 days.")
@click.option("--workers", type=click.IntRange(min=1), help=WORKERS)
@click.option(
    "--rate", type=click.FloatRange(min=0.01), default=10.0, show_default=True, help="Requests a second at most."
)
def sky(
    position: tuple[str, ...],
    path: Path | None,
    sql: str | None,
    output: Path,
    model: str | None,
    result: Path | None,
    pdf: bool,
    as_json: bool,
    sfd: Path | None,
    workers: int | None,
    **archive: Any,
) -> None:
    """Cut galaxies out of the images of an archive.

    They are at POSITION, in a list, or found by a query. POSITION is RA and Dec (ICRS) in degrees, or sexagesimal with
    RA in hours, or the name of an object, which Sesame is asked for. The cutouts have the bands and pixels of the
    archive: ugriz and 0.396 arcsec of SDSS, griz and 0.262 arcsec of the Legacy Surveys. photoz predict,
    photoz score and the training read them; with --score, their redshifts are estimated at once. Run the same command
    again to continue a run that was stopped.
    """
    is_qp = result is not None and written_format(result) is QP  # raises before anything is downloaded
    if [path is not None, sql is not None, bool(position)].count(True) != 1:
        raise click.UsageError("expected one of: a position, --list FILE, --sql QUERY")
    if model is None and (result or pdf or as_json):
        raise click.UsageError("--result, --pdf and --json need --score")
    if model is not None and archive["size"]:
        raise click.UsageError("--size is that of the model: leave it out")
    if output.suffix.lower() not in HDF5.suffixes:
        raise click.UsageError(f"cutouts are written as HDF5: expected a name that ends in .h5, got {output}")
    refuse_existing(result)
    # These take seconds to import: astropy, astroquery and reproject.
    from photoz_survey.sky.cut_out import cut_out, open_catalogue, open_source, open_targets
    from photoz_survey.sky.redshifts import predict_file, read_card

    stop_at_sigterm("run the same command again to continue")
    workers = workers or len(os.sched_getaffinity(0))
    source = open_source(workers=workers, **archive)
    if model is not None:
        source = source.for_images(read_card(model).image)
    catalogue = open_catalogue(**{name: archive[name] for name in ("catalogue", "cache", "offline", "refresh")})
    cut_out(open_targets(" ".join(position), path, sql, catalogue), sfd, source, output, workers)
    if model is not None:
        prediction, table = predict_file(model, output, pdf=pdf or is_qp)
        if result is not None:
            write_table(table, result)
        else:
            show_json(json_bytes(table)) if as_json else show(*text_table(prediction))
