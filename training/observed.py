"""Frames as they were observed: their pixels, and what is known of PSF and gain.

Known are the frames of both of SDSS's pipelines, `frame-r-000094-3-0100.fits` (DR8 and later) and
`fpC-000094-r3-0100.fit`, and any other FITS image with a zero point whose name ends in its band, `field-r.fits`. The
files `psField` and, for fpC, `tsField` are beside them, not compressed; frames may be.
"""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sep
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from photoz.errors import InvalidDataset
from photoz.io.fits_header import ImageHeader
from photoz.io.frame import Frame
from photoz_survey.sky.astrometry import astrometry
from photoz_survey.sky.cutting import read_frame
from training.psf import Psf, psf_of_stars

SDSS_BANDS = "ugriz"
EXPOSURE = 53.907456  # seconds, of each SDSS frame
SKY_BOX = 256  # pixels in which the sky of an fpC frame is measured, as SDSS's pipeline did

ANY = r"\.fits?(?:\.gz|\.bz2|\.fz)?"
FRAME = re.compile(rf"frame-(?P<band>[{SDSS_BANDS}])-(?P<field>\d{{6}}-\d-\d{{4}}){ANY}")
FPC = re.compile(rf"fpC-(?P<run>\d{{6}})-(?P<band>[{SDSS_BANDS}])(?P<camcol>\d)-(?P<number>\d{{4}}){ANY}")
OTHER = re.compile(rf"(?P<field>.+)-(?P<band>[^-]+?){ANY}")


@dataclass(frozen=True)
class Observed:
    """A frame, without the sky, and how it was observed."""

    frame: Frame
    psf: Psf
    electrons: float | None  # photo-electrons per nanomaggy; None if unknown


def find_fields(folder: Path, bands: tuple[str, ...]) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """Return the frames of each field in a folder, in the order of the bands, and the fields that lack some of them.

    Raises `InvalidDataset` if no field has all.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        if (name := _parse(path)) and name[1] in bands:
            found.setdefault(name[0], {})[name[1]] = path
    complete = {
        field: tuple(paths[band] for band in bands) for field, paths in found.items() if len(paths) == len(bands)
    }
    if not complete:
        raise InvalidDataset(
            f"{folder} has no field with frames in {','.join(bands)}: expected SDSS's frame-r-000094-3-0100.fits or "
            "fpC-000094-r3-0100.fit, or images with names such as field-r.fits"
        )
    return complete, sorted(found.keys() - complete.keys())


def _parse(path: Path) -> tuple[str, str] | None:
    """Return the names of the field and of the band of a frame; None of other files."""
    if match := FPC.fullmatch(path.name):
        return f"{match['run']}-{match['camcol']}-{match['number']}", match["band"]
    match = FRAME.fullmatch(path.name) or OTHER.fullmatch(path.name)
    return (match["field"], match["band"]) if match else None


def read_observed(path: Path) -> Observed:
    """Read a frame; raises `InvalidDataset` if it cannot be used."""
    try:
        if match := FPC.fullmatch(path.name):
            return _read_fpc(path, match)
        if match := FRAME.fullmatch(path.name):
            return _read_sdss(path, match)
        return _read_other(path)
    except (OSError, LookupError, StopIteration, TypeError, ValueError) as error:
        raise InvalidDataset(f"{path} cannot be read as a frame: {error}") from error


def _read_sdss(path: Path, match: re.Match[str]) -> Observed:
    with path.open("rb") as file:
        frame = read_frame(file)
    beside = path.with_name(f"psField-{match['field']}.fit")
    if not beside.exists():
        return Observed(frame, psf_of_stars(frame.pixels), None)
    psf, gain = _read_psfield(beside, match["band"])
    return Observed(frame, psf, gain / float(fits.getval(path, "NMGY")))


def _read_fpc(path: Path, match: re.Match[str]) -> Observed:
    """Read a frame of the pipeline before DR8: counts with sky and a soft bias; calibration is in `tsField`."""
    index, run, camcol, number = SDSS_BANDS.index(match["band"]), match["run"], match["camcol"], match["number"]
    with fits.open(path, ignore_missing_end=True) as hdus:
        header, counts = hdus[0].header, np.asarray(hdus[0].data, np.float32)
    tables = list(path.parent.glob(f"tsField-{run}-{camcol}-*-{number}.fit"))
    psfield = path.with_name(f"psField-{run}-{camcol}-{number}.fit")
    if not tables or not psfield.exists():
        raise InvalidDataset(f"{path} needs the files psField and tsField of its field beside it")
    of_field = {name: value[index] for name, value in _row(tables[0], 1).items() if np.shape(value) == (5,)}
    in_nanomaggies = 1e9 / EXPOSURE * 10.0 ** (0.4 * (of_field["aa"] + of_field["kk"] * of_field["airmass"]))
    pixels = (counts - sep.Background(counts, bw=SKY_BOX, bh=SKY_BOX).back()) * np.float32(in_nanomaggies)
    as_trans = {name.upper(): value for name, value in of_field.items()} | {n: header[n] for n in ("NODE", "INCL")}
    psf, gain = _read_psfield(psfield, match["band"])
    frame = Frame(pixels, astrometry(_wcs(header), as_trans, pixels.shape))
    return Observed(frame, psf, gain / in_nanomaggies)


def _read_psfield(path: Path, band: str) -> tuple[Psf, float]:
    """Return the PSF of a band and its gain, photo-electrons per count."""
    index = SDSS_BANDS.index(band)
    with fits.open(path) as hdus:
        return Psf.of_psfield(hdus[index + 1].data), float(hdus[6].data["gain"][0][index])


def _row(path: Path, hdu: int) -> dict[str, Any]:
    with fits.open(path) as hdus:
        return {name: hdus[hdu].data[name][0] for name in hdus[hdu].columns.names}


def _read_other(path: Path) -> Observed:
    """Read an image from which the sky was subtracted, in any unit of flux or with a zero point."""
    with fits.open(path) as hdus:
        image = next(hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 2)
        header, pixels = image.header, np.asarray(image.data, np.float32)
        unit = ImageHeader(image, hdus.index(image), hdus[0].header, path).pixel_unit()
    if unit.nanomaggies is None:
        raise InvalidDataset(f"{path} has {unit}: expected a unit of flux in BUNIT, or a zero point, such as MAGZERO")
    pixels = pixels * np.float32(unit.nanomaggies)
    return Observed(Frame(pixels, _wcs(header)), psf_of_stars(pixels), None)


def _wcs(header: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header)
