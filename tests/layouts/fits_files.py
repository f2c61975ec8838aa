"""Rows of FITS files in five shapes, in which each image says its own unit, zero point and pixel scale."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from tests.layouts.galaxies import BANDS, DEC, PLANES, RA, SCALE, Layout

Cards = Mapping[str, Any]
# Cards of the header of an image, given its galaxy and band, and what its nanomaggies are multiplied by.
Statement = Callable[[int, int], tuple[Cards, float]]
# Cards for the sky, given the galaxy and band.
Sky = Callable[[int, int], Cards]

# One image of four axes; an HDU for each galaxy; one for each band of one galaxy; a table; a file for each galaxy.
SHAPES = ("cube", "cubes", "planes", "table", "folder")


def same(factor: float = 1.0, **cards: Any) -> Statement:
    return lambda galaxy, band: (cards, factor)


NANOMAGGIES = same(BUNIT="nanomaggy")


def varied(keyword: str, values: Sequence[Any], factor: Callable[[Any], float], **cards: Any) -> Statement:
    """Return the statement of one value for each galaxy (four values) or band (five)."""

    def state(galaxy: int, band: int) -> tuple[Cards, float]:
        value = values[galaxy if len(values) == 4 else band]
        return {**cards, keyword: value}, factor(value)

    return state


def without(state: Statement, *silent: tuple[int, int]) -> Statement:
    """Return the statement without the cards of some images (galaxy, band), whose pixels are multiplied as before."""
    return lambda *image: ({} if image in silent else state(*image)[0], state(*image)[1])


def frame(galaxy: int, *ctype: str, at: tuple[float, float] | None = None) -> dict[str, Any]:
    """Return the cards that place the centre of a cutout on the sky."""
    longitude, latitude = at or (RA[galaxy], DEC[galaxy])
    kind = ctype or ("RA---TAN", "DEC--TAN")
    cards = {"CTYPE1": kind[0], "CTYPE2": kind[1], "CRVAL1": longitude, "CRVAL2": latitude}
    return cards | {"CRPIX1": 32.5, "CRPIX2": 32.5, "CUNIT1": "deg", "CUNIT2": "deg"}


def matrix(name: str, x: float, y: float, angle: float = 0.0) -> dict[str, float]:
    """Return the cards CDi_j or PCi_j for steps along the axes, rotated by an angle in degrees."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    values = (-x * cosine, y * sine, x * sine, y * cosine)
    return dict(zip((f"{name}{i}_{j}" for i in (1, 2) for j in (1, 2)), values, strict=True))


def wcs(galaxy: int, band: int) -> Cards:
    return frame(galaxy) | matrix("CD", SCALE / 3600, SCALE / 3600)


def hdu_of(array: Any, cards: Cards, make: Any = fits.ImageHDU) -> Any:
    hdu = make(array)
    hdu.header.update(cards)
    return hdu


def save(path: Path, *hdus: Any, primary: Cards | None = None) -> None:
    """Write extensions after an empty primary HDU with these cards, or instead of it."""
    first = [] if isinstance(hdus[0], fits.PrimaryHDU) else [hdu_of(None, primary or {}, fits.PrimaryHDU)]
    fits.HDUList([*first, *hdus]).writeto(path)


def scaled(pixels: np.ndarray, factor: float) -> np.ndarray:
    return (pixels * np.float64(factor)).astype(np.float32)


def images(shape: str, state: Statement, pixels: np.ndarray, sky: Sky, names: Any) -> list[tuple[np.ndarray, Cards]]:
    """Return pixels and cards of each image; `names` are those of the bands, or their cards."""
    described = {"BANDS": names} if isinstance(names, str) else names
    if shape == "cube":
        keys, parts, described = [(0, 0)], [pixels], [described]
    elif shape == "planes":
        keys, parts = [(0, band) for band in range(len(names))], list(pixels[0])
        described = [{"EXTNAME": name} if isinstance(name, str) else name for name in names]
    else:
        keys, parts = [(galaxy, 0) for galaxy in range(len(pixels))], list(pixels)
        described = [described] * len(pixels)
    states = [state(*key) for key in keys]
    cards = [{**names, **sky(*key), **said} for names, key, (said, _) in zip(described, keys, states, strict=True)]
    return [(scaled(part, factor), card) for part, (_, factor), card in zip(parts, states, cards, strict=True)]


def table(pixels: np.ndarray, cards: Cards, *columns: fits.Column) -> Any:
    """Return a table with a column of images, whose unit is that of the card BUNIT, and others."""
    unit, sides = cards.get("BUNIT"), str(pixels.shape[:0:-1])
    image = fits.Column("IMAGE", f"{pixels[0].size}E", unit=unit, dim=sides, array=pixels)
    hdu = fits.BinTableHDU.from_columns([image, *columns])
    hdu.header.update({key: value for key, value in cards.items() if key != "BUNIT"})
    return hdu


def row(
    shape: str,
    state: Statement = NANOMAGGIES,
    *,
    pixels: np.ndarray = PLANES,
    sky: Sky = wcs,
    names: Any = BANDS,
    primary: Cards | None = None,
    make: Any = fits.ImageHDU,
    more: Callable[[], Sequence[Any]] = tuple,
    **expected: Any,
) -> Layout:
    """Return the row of a file of one shape; `more` returns HDUs after its own."""

    def write(path: Path) -> None:
        if shape == "table":
            cards, factor = state(0, 0)
            bands = {"BANDS": names} if isinstance(names, str) else names
            save(path, table(scaled(pixels, factor), {**bands, "PIXSCALE": SCALE, **cards}), *more(), primary=primary)
            return
        parts = images(shape, state, pixels, sky, names)
        if shape == "folder":
            path.mkdir()
            for galaxy, (array, cards) in enumerate(parts):
                hdu_of(array, cards, fits.PrimaryHDU).writeto(path / f"galaxy-{galaxy}.fits")
            return
        kind = fits.PrimaryHDU if shape == "cube" and make is fits.ImageHDU else make
        save(path, *(hdu_of(array, cards, kind) for array, cards in parts), *more(), primary=primary)

    place = {"file": "mine" if shape == "folder" else "mine.fits", "n": 1 if shape == "planes" else len(pixels)}
    return Layout(write, **(place | expected))
