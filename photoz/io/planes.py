"""Images of one band each, in extensions or files: which galaxy and band each of them is."""

import re
from collections.abc import Sequence

import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray

LETTERS = frozenset("ugrizyUGRIZY")  # words that are surely bands
WORDS = re.compile(r"[_.\- ]+")

MAX_OFFSET = 1.0  # arcsec, between images of one galaxy; those cut out of frames are up to half a pixel off


def check_positions(positions: Sequence[FloatArray | None], names: Sequence[str], where: object) -> None:
    """Raise `InvalidDataset` if images of one galaxy lie apart; right ascensions and declinations (2, m) in degrees."""
    (first, its_name), *others = [
        (position, name) for position, name in zip(positions, names, strict=True) if position is not None
    ] or [(np.empty((2, 0)), "")]
    for position, name in others:
        offsets = (position - first + 180.0) % 360.0 - 180.0
        offset = 3600.0 * np.hypot(offsets[0] * np.cos(np.radians(first[1])), offsets[1]).max()
        if offset > MAX_OFFSET:
            raise InvalidDataset(
                f"expected images of one galaxy in {where} to show the same pixels of the sky, but those of {name} are "
                f"{offset:.3g} arcsec from those of {its_name}, by their world coordinates: resample them"
            )


def arrange(names: Sequence[str], bands: Sequence[str], where: object) -> tuple[list[str], list[str], list[list[int]]]:
    """Arrange images by galaxy and band, given their names and, where they are known, their bands; "" if not.

    Returns the names of galaxies, "" for a single one, their bands, and for each galaxy the numbers of its images in
    the order of the bands. Raises `InvalidDataset` if no arrangement gives all galaxies the same bands.
    """
    for name, band in zip(names, bands, strict=True):
        _check_name(name, band, where)
    if all(bands) and len(set(bands)) == len(bands):
        return [""], list(bands), [list(range(len(bands)))]
    splits = _splits(names, bands) if all(names) else []
    grids = [grid for grid in map(_grid, splits) if grid is not None]
    best = max(grids, key=lambda grid: (len(LETTERS.intersection(grid[1])), len(grid[1])), default=None)
    if best is None or not LETTERS.intersection(best[1]):
        for split in splits:
            _check_complete(split, where)
    if best is None:
        raise InvalidDataset(
            f"expected FILTER, BAND or the name of each image to give its band in {where}, once for each galaxy, got "
            f"{', '.join(f'{name} ({band})' if band else name for name, band in zip(names[:8], bands, strict=False))}"
        )
    return best


def has_letters(bands: Sequence[str]) -> bool:
    """Return whether names of bands have a word that surely is one."""
    return not LETTERS.isdisjoint(word for band in bands for word in WORDS.split(band))


def _check_complete(split: list[tuple[str, str]], where: object) -> None:
    """Refuse images whose bands are known, if few galaxies lack one."""
    galaxies, bands = (list(dict.fromkeys(part)) for part in zip(*split, strict=True))
    missing = [f"{galaxy} has no {band}" for galaxy in galaxies for band in bands if (galaxy, band) not in split]
    if 0 < 2 * len(missing) < len(galaxies) * len(bands) and LETTERS.issuperset(bands):
        raise InvalidDataset(
            f"expected the bands {','.join(bands)} of each galaxy in {where}; {', '.join(missing[:5])}"
        )


def _check_name(name: str, band: str, where: object) -> None:
    """Refuse a name whose only letter of a band is another than the band's."""
    of_name, of_band = ({word.lower() for word in WORDS.split(text) if word in LETTERS} for text in (name, band))
    if len(of_name) == len(of_band) == 1 and of_name != of_band:
        raise InvalidDataset(
            f"{name} in {where} contradicts itself: its name says band {of_name.pop()}, its header {band}; correct one"
        )


def _splits(names: Sequence[str], bands: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Return ways of dividing names into a galaxy and a band."""
    if all(bands):
        return [[(_without(name, band), band) for name, band in zip(names, bands, strict=True)]]
    halves = [
        [re.fullmatch(pattern, name) for name in names] for pattern in (r"(.*)[_.\- ]+(.+)", r"(.+?)[_.\- ]+(.*)")
    ]
    last, first = ([half for half in halves_ if half] for halves_ in halves)
    splits = [[("", name) for name in names]]
    if len(last) == len(names):
        splits += [[(half[1], half[2]) for half in last], [(half[2], half[1]) for half in first]]
    words = [WORDS.split(name) for name in names]
    if len(set(map(len, words))) == 1:
        columns = [column for column in zip(*words, strict=True) if LETTERS.issuperset(column)]
        splits += [
            [(_without(name, word), word) for name, word in zip(names, column, strict=True)] for column in columns
        ]
    return splits


def _without(name: str, band: str) -> str:
    """Return a name without the word that is a band."""
    words = re.split(r"([_.\- ]+)", name)
    kept = "".join(word for word in words if word.lower() != band.lower())
    return re.sub(r"([_.\- ])[_.\- ]+", r"\1", kept).strip("_.- ")


def _grid(split: list[tuple[str, str]]) -> tuple[list[str], list[str], list[list[int]]] | None:
    """Return galaxies, bands and image numbers if each galaxy has each band once."""
    numbers = {pair: number for number, pair in enumerate(split)}
    galaxies, bands = (list(dict.fromkeys(part)) for part in zip(*split, strict=True))
    if len(numbers) < len(split) or len(numbers) != len(galaxies) * len(bands) or len(bands) < 2:
        return None
    return galaxies, bands, [[numbers[galaxy, band] for band in bands] for galaxy in galaxies]
