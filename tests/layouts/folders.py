"""Folders and patterns: a file for each galaxy, or for each band of one galaxy, each with its own headers."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from tests.layouts.fits_files import Cards, hdu_of, wcs
from tests.layouts.fits_units import BY_BAND, BY_GALAXY, UNITS
from tests.layouts.galaxies import BANDS, DEC, IMAGES, PLANES, RA, SCALE, Layout, N, factor_of

NAMES = [f"galaxy-{galaxy}" for galaxy in range(N)]
NAMED = {"object_id": NAMES}
MIXED = ("nJy", "uJy", "nanomaggy", "Jy")
NANOMAGGIES = {"BUNIT": "nanomaggy"}

Part = Callable[[int], tuple[Cards, float]]  # cards of the header of a file, and what its nanomaggies are multiplied by


def folder(files: Iterable[tuple[str, np.ndarray, Cards]], **expected: Any) -> Layout:
    """Return the row of a folder of files with their names, images and headers."""
    listed = list(files)

    def write(path: Path) -> None:
        path.mkdir()
        for name, pixels, cards in listed:
            hdu_of(pixels.astype(np.float32), cards, fits.PrimaryHDU).writeto(path / name)

    return Layout(write, **({"file": "mine"} | expected))


def galaxies(part: Part, suffix: str = ".fits", **expected: Any) -> Layout:
    """Return the row of a file with all bands for each galaxy."""
    parts = [part(galaxy) for galaxy in range(N)]
    files = [
        (NAMES[galaxy] + suffix, PLANES[galaxy] * factor, {"BANDS": BANDS, **wcs(galaxy, 0), **cards})
        for galaxy, (cards, factor) in enumerate(parts)
    ]
    return folder(files, **({"columns": NAMED} | expected))


def one_band_each(template: str, part: Part, bands: Iterable[int] = range(5), n: int = 1, **expected: Any) -> Layout:
    """Return the row of a file for each band of each of n galaxies."""
    keys = [(galaxy, band, *part(band)) for galaxy in range(n) for band in bands]
    files = [
        (
            template.format(band=BANDS[band], galaxy=NAMES[galaxy]),
            PLANES[galaxy, band] * factor,
            wcs(galaxy, band) | cards,
        )
        for galaxy, band, cards, factor in keys
    ]
    return folder(files, n=n, **expected)


def saved(save: Callable[[Path, int], object], **expected: Any) -> Layout:
    """Return the row of a folder with a file for each galaxy that a function writes."""

    def write(path: Path) -> None:
        path.mkdir()
        for galaxy in range(N):
            save(path / NAMES[galaxy], galaxy)

    return Layout(write, file="mine", columns=NAMED, **expected)


def save_npz(path: Path, galaxy: int) -> None:
    unit = MIXED[galaxy]
    pixels = (IMAGES[galaxy : galaxy + 1] * np.float64(UNITS[unit])).astype(np.float32)
    np.savez(path.with_suffix(".npz"), images=pixels, unit=unit, bands=list(BANDS), pixel_scale=SCALE)


def of_another_size(galaxy: int) -> np.ndarray:
    side = 16 if galaxy == 2 else 0
    return np.pad(PLANES[galaxy], ((0, 0), (side, side), (side, side)))


def unit_of(galaxy: int) -> tuple[Cards, float]:
    return {"BUNIT": MIXED[galaxy]}, UNITS[MIXED[galaxy]]


def zero_point_of(band: int) -> tuple[Cards, float]:
    return {"MAGZERO": BY_BAND[band]}, factor_of(BY_BAND[band])


def plain(_: int) -> tuple[Cards, float]:
    return NANOMAGGIES, 1.0


def by_filter(band: int) -> tuple[Cards, float]:
    return {**NANOMAGGIES, "FILTER": BANDS[band]}, 1.0


def other(number: int, cards: Cards) -> Part:
    """Return nanomaggies, but other cards in one file."""
    return lambda file: (cards if file == number else NANOMAGGIES, 1.0)


OBJECTS = [f"NGC {galaxy}" for galaxy in range(N)]
ORDERS = [slice(None, None, 1 - 2 * (galaxy % 2)) for galaxy in range(N)]  # every other one backwards
DESCRIBED = {**NANOMAGGIES, "PIXSCALE": SCALE}
LAYOUTS: dict[str, Layout] = {
    "positions and names of files": galaxies(plain, columns={**NAMED, "ra": RA, "dec": DEC}),
    "OBJECT in each file": galaxies(
        lambda n: ({**NANOMAGGIES, "OBJECT": OBJECTS[n]}, 1.0), columns={"object_id": OBJECTS}
    ),
    "units of their own": galaxies(unit_of),
    "units of their own, .fits.gz": galaxies(unit_of, suffix=".fits.gz"),
    "zero points of their own": galaxies(lambda n: ({"PHOTZP": BY_GALAXY[n], "BUNIT": "adu"}, factor_of(BY_GALAXY[n]))),
    "units and zero points": galaxies(lambda n: unit_of(n) if n else ({"MAGZERO": 25.0}, factor_of(25.0))),
    "orders of bands of their own": folder(
        (f"{NAMES[n]}.fits", PLANES[n][order], {**DESCRIBED, "BANDS": BANDS[order]}) for n, order in enumerate(ORDERS)
    ),
    "sizes of their own": folder(
        [(f"{NAMES[n]}.fits", of_another_size(n), {**DESCRIBED, "BANDS": BANDS}) for n in range(N)], columns=NAMED
    ),
    "one in kelvin": galaxies(other(2, {"BUNIT": "K"}), refused=["galaxy-2", r"\bK\b"]),
    "one Vega": galaxies(other(1, {**NANOMAGGIES, "MAGSYS": "Vega"}), refused=["galaxy-1", "Vega"]),
    "one with a band missing": galaxies(other(3, {**NANOMAGGIES, "BANDS": "ugriJ"}), refused=["galaxy-3", r"\bz\b"]),
    "npy files": saved(lambda path, n: np.save(path.with_suffix(".npy"), IMAGES[n]), said={"assumed": "nanomagg"}),
    "npz files in units of their own": saved(save_npz),
    "band in FILTER": one_band_each("cutout-{band}.fits", by_filter),
    "band in FILTER alone": folder(
        [(f"a{b}.fits", PLANES[0, b], {**wcs(0, b), **by_filter(b)[0]}) for b in range(5)], n=1
    ),
    "band in FILTER and the name of the file": one_band_each(
        "{band}.fits", lambda b: ({**NANOMAGGIES, "FILTER": f"SDSS_{BANDS[b]}"}, 1.0)
    ),
    "bands of two galaxies": one_band_each(
        "{band}.fits", lambda b: ({**NANOMAGGIES, **wcs(int(b == 2), b)}, 1.0), refused=["arcsec", r"\br\.fits"]
    ),
    "bands in FILTER and the name of the file disagree": one_band_each(
        "{band}.fits", lambda b: ({**NANOMAGGIES, "FILTER": "grizu"[b]}, 1.0), refused=["band", "disagree|contradict"]
    ),
    "a band missing": one_band_each("{band}.fits", by_filter, bands=range(1, 5), refused=[r"\bu\b"]),
    "a band in kelvin": one_band_each("{band}.fits", other(2, {"BUNIT": "K"}), refused=[r"\br\.fits", r"\bK\b"]),
    "a band without a unit": one_band_each("{band}.fits", other(2, {}), refused=[r"\br\.fits", "unit"]),
    "bands of four galaxies": one_band_each("{galaxy}_{band}.fits", plain, n=N, columns=NAMED),
}
BESIDE = {"weight": "{}_weight", "wt": "{}.wt", "ivar": "{}-ivar", "mask": "mask_{}", "psf": "{}_psf"}
for word, name in BESIDE.items():
    files = {NAMES[n]: PLANES[n] for n in range(N)} | {name.format(NAMES[n]): np.ones_like(PLANES[n]) for n in range(N)}
    LAYOUTS[f"{word} beside each file"] = folder(
        [(f"{file}.fits", pixels, {**DESCRIBED, "BANDS": BANDS}) for file, pixels in files.items()],
        said={"left_out": f"4 files.*{word}"},
    )
for image, weight in (("{}", "{}.wt"), ("{}_sci", "{}_wht"), ("img_{}", "weight_{}")):
    files = {image.format(b): PLANES[0, n] for n, b in enumerate(BANDS)}
    files |= {weight.format(b): np.ones((64, 64)) for b in BANDS}
    LAYOUTS[f"{weight}.fits beside {image}.fits"] = folder(
        [(f"{file}.fits", pixels, DESCRIBED) for file, pixels in files.items()], n=1, said={"left_out": "5 files"}
    )
LAYOUTS |= {
    "a file twice": folder(
        [(f"a.fits{end}", PLANES[0], {**DESCRIBED, "BANDS": BANDS}) for end in ("", ".gz")], refused=["a.fits.gz"]
    ),
    "bands in the middle": one_band_each("frame-{band}-{galaxy}-0027.fits", plain, n=N),
    "a band of one galaxy missing": folder(
        [(f"{n}_{BANDS[b]}.fits", PLANES[n, b], DESCRIBED) for n in range(N) for b in range(5) if (n, b) != (2, 3)],
        refused=["2 has no i"],
    ),
    "only other formats": folder([], refused=["expected files"]),
}
TEMPLATES = ("{band}", "cutout_{band}", "NGC1-{band}", "SDSS_{band}", "frame-{band}-001")
for template in TEMPLATES:
    LAYOUTS[f"files {template}.fits"] = one_band_each(f"{template}.fits", plain)
    LAYOUTS[f"files {template}.fits with zero points"] = one_band_each(f"{template}.fits", zero_point_of)


def with_others(path: Path) -> None:
    """Write two galaxies, one in another format, and one in a folder."""
    (path / "more").mkdir(parents=True)
    (path / "c.fits.xz").write_bytes(b"")
    for name, pixels in zip(("a", "b", "more/d"), PLANES, strict=False):
        hdu_of(pixels, {**DESCRIBED, "BANDS": BANDS}, fits.PrimaryHDU).writeto(path / f"{name}.fits")


LAYOUTS["other formats and folders"] = Layout(with_others, file="mine", n=2, said={"left_out": "c.fits.xz.*more"})
LAYOUTS["files {band}.fits.gz"] = one_band_each("{band}.fits.gz", zero_point_of)
for name in ("units of their own", "zero points of their own"):
    LAYOUTS[f"pattern, {name}"] = replace(LAYOUTS[name], pattern="*.fits")
