"""Cut galaxies out of the images of an archive: the steps of `photoz sky`."""

import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from astroquery.sdss import conf
from sfdmap2.sfdmap import SFDMap

from photoz.cli.options import refuse_existing
from photoz.cli.printing import show
from photoz.errors import InvalidInput, counted
from photoz.grid import FloatArray
from photoz_survey.sky import sdss
from photoz_survey.sky.archive import MAX_AGE, FileCache
from photoz_survey.sky.catalogue import Catalogue
from photoz_survey.sky.cutout_file import CutoutFile, Source
from photoz_survey.sky.frames import SdssFrames
from photoz_survey.sky.ledger import ledger_path
from photoz_survey.sky.legacy import ADDRESS, LAYERS, TIMEOUT, LegacySurveys
from photoz_survey.sky.names import find_position
from photoz_survey.sky.targets import Targets, read_targets
from photoz_survey.terminal import progress

# The options of the command that `open_source` takes.
SOURCE_OPTIONS = ("source", "archive", "catalogue", "size", "cache", "cache_gb", "offline", "refresh", "rate")

# The published maps of Schlegel, Finkbeiner and Davis 1998 (SFD), north and south of the Galactic equator.
MAPS = ("SFD_dust_4096_ngp.fits", "SFD_dust_4096_sgp.fits")


def open_source(
    source: str,
    archive: str | None,
    catalogue: str | None,
    size: int | None,
    cache: Path,
    cache_gb: float,
    offline: bool,
    refresh: bool,
    rate: float,
    workers: int,
) -> Source:
    """Return the archive that the options of the command describe, for cutouts of `size` pixels."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it would warn about each request that is repeated
    files = FileCache(cache, round(cache_gb * 1e9), offline=offline, interval=workers / rate)
    opened: Source
    if source in LAYERS:
        opened = LegacySurveys.of(archive or ADDRESS, source, replace(files, timeout=TIMEOUT))
    else:
        opened = SdssFrames(archive or conf.sas_baseurl, open_catalogue(catalogue, cache, offline, refresh), files)
    return replace(opened, image=replace(opened.image, size=size or opened.image.size))


def open_catalogue(catalogue: str | None, cache: Path, offline: bool, refresh: bool) -> Catalogue:
    """Return the catalogue of SDSS that the options of the command describe."""
    newest = time.time() - (0 if refresh else MAX_AGE)
    return Catalogue(catalogue or conf.skyserver_baseurl, cache, newest, offline)


def open_targets(position: str, path: Path | None, sql: str | None, catalogue: Catalogue) -> Targets:
    """Return the galaxies at a position, in a list or found by a query, and say which columns were converted."""
    if path is not None:
        targets = read_targets(path)
    elif sql is not None:
        targets = sdss.query(sql, catalogue)
    else:
        targets = find_position(position, catalogue.offline)
    for note in targets.notes:
        show(note, err=True)
    return targets


def locate(targets: Targets, sfd: Path | None, source: Source) -> Targets:
    """Find galaxies in an archive, and E(B-V) in the maps of a folder, if there is one, where it is not given."""
    return source.locate(targets if sfd is None else targets.with_ebv(from_maps(targets, sfd)))


def check_maps(folder: Path) -> None:
    """Raise `InvalidInput` if a map is missing."""
    if missing := [name for name in MAPS if not (folder / name).is_file()]:
        raise InvalidInput(f"expected the maps {' and '.join(MAPS)} in {folder}; missing: {', '.join(missing)}")


def from_maps(targets: Targets, folder: Path) -> FloatArray:
    """Return E(B-V), (n,), interpolated in the maps in a folder; raises `InvalidInput` if a map is missing."""
    check_maps(folder)
    maps = SFDMap(str(folder), *MAPS, scaling=1.0)  # the default is the scale of Schlafly and Finkbeiner 2011
    return np.asarray(maps.ebv(targets.ra, targets.dec), np.float64)


def cut_out(targets: Targets, sfd: Path | None, source: Source, output: Path, workers: int) -> None:
    """Write the cutouts of galaxies to a file, unless that of the same list has them, and say what became of them."""
    file = CutoutFile(targets, source, output)
    if not file.is_begun():
        refuse_existing(output)
    with file.locked():
        targets = locate(targets, sfd, source)
        if unknown := int(np.isnan(targets.ebv).sum()):
            show(f"E(B-V) of {unknown:,} of {counted(len(targets), 'galaxy')} is unknown", err=True)
        if stars := sdss.count_stars(targets):
            show(f"{stars:,} of {counted(len(targets), 'galaxy')} are stars in the catalogue", err=True)
        with progress(len(targets), "galaxies") as advance:
            for n in file.write(targets, workers):
                advance(n)
    show(f"{output}: {file.ledger.summary()}; see {ledger_path(output)}", err=True)
