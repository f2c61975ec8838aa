"""The command `photoz sky`."""

import logging
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from astroquery.sdss import conf

from photoz.io.text_table import text_table
from photoz.io.writer import FORMATS, find_format, write_table
from photoz_survey.options import stop_at_sigterm
from photoz_survey.progress import progress
from photoz_survey.sky import sdss
from photoz_survey.sky.archive import FileCache
from photoz_survey.sky.fetch import failed_path, fetch
from photoz_survey.sky.frames import SdssFrames
from photoz_survey.sky.legacy import ADDRESS, LAYERS, LegacySurveys
from photoz_survey.sky.reddening import from_maps
from photoz_survey.sky.scoring import open_model, predict_file
from photoz_survey.sky.source import Source
from photoz_survey.sky.targets import Targets, read_targets

SDSS = "sdss"

# Stands for `sdss.MAIN_SAMPLE` in place of a query.
MAIN_SAMPLE = "main-sample"

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


def _check_result(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None:
        find_format(path)
    return path


# Declinations may be negative, which are no options.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("position", nargs=-1, type=float)
@click.option("--list", "path", type=FILE, help="Positions: CSV, ECSV, FITS, Parquet or VOTable with ra and dec.")
@click.option("--sql", help=f"Galaxies of a query to SDSS's catalogue; {MAIN_SAMPLE} is that of Pasquet et al. 2019.")
@click.option("-o", "--output", type=FILE, default=Path("cutouts.h5"), show_default=True, help="Cutouts, HDF5.")
@click.option("--score", "where", metavar="BUNDLE|URL", help="Estimate redshifts by a bundle or a service.")
@click.option(
    "--result",
    type=FILE,
    callback=_check_result,
    help=f"Write the estimates to this file instead of printing them. Its name ends in {', '.join(FORMATS)}.",
)
@click.option("--pdf", is_flag=True, help="Write the PDFs too.")
@click.option(
    "--source",
    type=click.Choice([SDSS, *LAYERS]),
    default=SDSS,
    show_default=True,
    help="Frames of SDSS, or a layer of the Legacy Surveys.",
)
@click.option(
    "--size", type=click.IntRange(8, 1024), help="Side of the cutouts in pixels.  [default: the model's, or 64]"
)
@click.option("--sfd", type=FOLDER, help="Folder of the SFD maps: E(B-V) where it is unknown.")
@click.option("--archive", help="Address of the images.  [default: that of the source]")
@click.option("--catalogue", default=lambda: conf.skyserver_baseurl, help="Address of SDSS's catalogue.")
@click.option(
    "--cache",
    type=FOLDER,
    default=Path.home() / ".cache" / "photoz" / "sky",
    help="Folder of the archive's files.  [default: ~/.cache/photoz/sky]",
)
@click.option("--cache-gb", type=click.FloatRange(min=0), default=20.0, show_default=True, help="Size of that folder.")
@click.option("--offline", is_flag=True, help="Download nothing.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes, each with a connection; default: the cores.")
@click.option(
    "--rate", type=click.FloatRange(min=0.01), default=10.0, show_default=True, help="Requests a second at most."
)
def sky(
    position: tuple[float, ...],
    path: Path | None,
    sql: str | None,
    output: Path,
    where: str | None,
    result: Path | None,
    pdf: bool,
    size: int | None,
    sfd: Path | None,
    workers: int | None,
    **archive: Any,
) -> None:
    """Cut galaxies out of the images of an archive, and estimate their redshifts.

    They are at POSITION, RA and Dec in degrees (ICRS), in a list, or found by a query. The cutouts have the bands and
    pixels of the archive: ugriz and 0.396 arcsec of SDSS, griz and 0.262 arcsec of the Legacy Surveys. photoz predict,
    photoz score and the training read them. A run that was stopped goes on when it is started again.
    """
    if [path is not None, sql is not None, bool(position)].count(True) != 1 or len(position) not in (0, 2):
        raise click.UsageError("expected one of: RA and Dec in degrees, --list FILE, --sql QUERY")
    if where is None and (result or pdf):
        raise click.UsageError("--result and --pdf need --score")
    if where is not None and size:
        raise click.UsageError("--size is that of the model: leave it out")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a request that is repeated is no news
    stop_at_sigterm("the same command goes on")
    workers = workers or len(os.sched_getaffinity(0))
    with nullcontext() if where is None else open_model(where) as model:
        source = _source(workers=workers, **archive)
        source = source.for_images(
            replace(source.image, size=size or source.image.size) if model is None else model.card.image
        )
        _fetch(_targets(position, path, sql, archive["catalogue"]), sfd, source, output, workers)
        if model is not None:
            prediction, table = predict_file(model, output, pdf=pdf)
            write_table(table, result) if result else click.echo(text_table(prediction))


def _source(
    source: str,
    archive: str | None,
    catalogue: str,
    cache: Path,
    cache_gb: float,
    offline: bool,
    rate: float,
    workers: int,
) -> SdssFrames | LegacySurveys:
    files = FileCache(cache, round(cache_gb * 1e9), offline=offline, interval=workers / rate)
    if source == SDSS:
        return SdssFrames(archive or conf.sas_baseurl, None if offline else catalogue, files)
    return LegacySurveys.of(archive or ADDRESS, source, files)


def _targets(position: tuple[float, ...], path: Path | None, sql: str | None, catalogue: str) -> Targets:
    if path is not None:
        return read_targets(path)
    if sql is not None:
        return sdss.query(sdss.MAIN_SAMPLE if sql == MAIN_SAMPLE else sql, catalogue)
    return Targets.of(*position)


def _fetch(targets: Targets, sfd: Path | None, source: Source, output: Path, workers: int) -> None:
    if sfd is not None:
        targets = targets.with_ebv(from_maps(targets, sfd))
    targets = source.locate(targets)
    if unknown := int(np.isnan(targets.ebv).sum()):
        click.echo(f"E(B-V) of {unknown:,} of {len(targets):,} galaxies is unknown", err=True)
    with progress(len(targets), "galaxies") as advance:
        for n in fetch(targets, source, output, workers):
            advance(n)
    failed = failed_path(output)
    if failed.exists():
        click.echo(f"some positions have no cutout: see {failed}", err=True)
