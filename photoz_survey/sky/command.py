"""The command `photoz sky`."""

import logging
import os
from pathlib import Path

import click
from astroquery.sdss import conf
from tqdm import tqdm

from photoz.images import SDSS_IMAGES
from photoz_survey.sky import sdss
from photoz_survey.sky.archive import FrameCache
from photoz_survey.sky.fetch import fetch
from photoz_survey.sky.targets import Targets, read_targets

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("position", nargs=-1, type=float)
@click.option("--list", "path", type=FILE, help="Positions: CSV, ECSV, FITS, Parquet or VOTable with ra and dec.")
@click.option("-o", "--output", type=FILE, required=True, help="File of cutouts to write, HDF5.")
@click.option("--archive", default=lambda: conf.sas_baseurl, help="Address of the frames.")
@click.option("--catalogue", default=lambda: conf.skyserver_baseurl, help="Address of the catalogue.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path.home() / ".cache" / "photoz" / "frames",
    help="Folder of the frames.  [default: ~/.cache/photoz/frames]",
)
@click.option("--cache-gb", type=click.FloatRange(min=0), default=20.0, show_default=True, help="Size of that folder.")
@click.option("--offline", is_flag=True, help="Download nothing.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes, each with a connection; default: the cores.")
def sky(
    position: tuple[float, ...],
    path: Path | None,
    output: Path,
    archive: str,
    catalogue: str,
    cache: Path,
    cache_gb: float,
    offline: bool,
    workers: int | None,
) -> None:
    """Cut galaxies at POSITION, RA and Dec in degrees (ICRS), or of a list out of the frames of SDSS.

    The result has the five bands, 64x64 pixels of 0.396 arcsec, that the shipped model takes: photoz predict, photoz
    score and the training read it. A run that was stopped goes on when it is started again.
    """
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a request that is repeated is no news
    if (path is None) == (not position) or len(position) not in (0, 2):
        raise click.UsageError("expected RA and Dec in degrees, or --list FILE")
    targets = read_targets(path) if path else Targets.of(*position)
    if not offline:
        targets = sdss.locate(targets, catalogue)
    frames = FrameCache(cache, archive + sdss.FRAMES, round(cache_gb * 1e9), offline=offline)
    failed = output.with_name(f"{output.stem}.failed.csv")
    with tqdm(total=len(targets), unit="galaxy") as bar:
        for n in fetch(targets, frames, SDSS_IMAGES, output, workers or len(os.sched_getaffinity(0))):
            bar.update(n)
    if failed.exists():
        click.echo(f"some positions have no cutout: see {failed}", err=True)
