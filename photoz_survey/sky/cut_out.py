"""Cut galaxies out of the images of an archive: the steps of `photoz sky`."""

import logging
from pathlib import Path

import click
import numpy as np
from astroquery.sdss import conf

from photoz_survey.progress import progress
from photoz_survey.sky import sdss
from photoz_survey.sky.archive import FileCache
from photoz_survey.sky.cutout_file import failed_path, write_cutouts
from photoz_survey.sky.frames import SdssFrames
from photoz_survey.sky.legacy import ADDRESS, LAYERS, LegacySurveys
from photoz_survey.sky.reddening import from_maps
from photoz_survey.sky.source import Source
from photoz_survey.sky.targets import Targets, read_targets


def open_source(
    source: str,
    archive: str | None,
    catalogue: str | None,
    cache: Path,
    cache_gb: float,
    offline: bool,
    rate: float,
    workers: int,
) -> SdssFrames | LegacySurveys:
    """Return the archive of a name, with its cache."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it would warn about each request that is repeated
    files = FileCache(cache, round(cache_gb * 1e9), offline=offline, interval=workers / rate)
    if source in LAYERS:
        return LegacySurveys.of(archive or ADDRESS, source, files)
    return SdssFrames(archive or conf.sas_baseurl, None if offline else catalogue or conf.skyserver_baseurl, files)


def open_targets(position: tuple[float, ...], path: Path | None, sql: str | None, catalogue: str | None) -> Targets:
    """Return the galaxies at a position, in a list or found by a query."""
    if path is not None:
        return read_targets(path)
    if sql is not None:
        return sdss.query(sql, catalogue or conf.skyserver_baseurl)
    return Targets.of(*position)


def cut_out(targets: Targets, sfd: Path | None, source: Source, output: Path, workers: int) -> None:
    """Write the cutouts of galaxies to a file, and say which have none."""
    if sfd is not None:
        targets = targets.with_ebv(from_maps(targets, sfd))
    targets = source.locate(targets)
    if unknown := int(np.isnan(targets.ebv).sum()):
        click.echo(f"E(B-V) of {unknown:,} of {len(targets):,} galaxies is unknown", err=True)
    with progress(len(targets), "galaxies") as advance:
        for n in write_cutouts(targets, source, output, workers):
            advance(n)
    failed = failed_path(output)
    if failed.exists():
        click.echo(f"some positions have no cutout: see {failed}", err=True)
