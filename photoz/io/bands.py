"""Names of bands in files, and the bands of a model."""

import re

from photoz.errors import InvalidDataset
from photoz.io.cutouts import Reading

SEPARATORS = re.compile(r"[\s_.\-/]+")

# What names of broad bands have after their letter: r', rp, rprime.
PRIMES = ("'", "p", "prime")

# Words in names of bands that are not these broad bands: other systems with the same letters, narrow and medium bands.
OTHERS = re.compile(r"johnson|cousins|kron|bessell?|gaia|(nb|ia|ib|f)\d+.*", re.IGNORECASE)


def order_of_bands(names: tuple[str, ...], bands: tuple[str, ...], reading: Reading) -> tuple[int, ...]:
    """Return the position of each band of a model among the names of a file, and note what was done.

    Raises `InvalidDataset` if a band is missing or occurs twice.
    """
    listed, given = ",".join(bands), ",".join(names)
    if not names:
        reading.assumed.append(f"the bands are {listed} in this order")
        return tuple(range(len(bands)))
    found = model_bands(names, bands)
    for band in dict.fromkeys(found):
        if found.count(band) > 1:
            raise InvalidDataset(f"expected each band once, got {given}, of which {found.count(band)} are {band}")
    if missing := [band for band in bands if band not in found]:
        raise InvalidDataset(f"expected the bands {listed}, got {given}; missing: {','.join(missing)}")
    if names != bands:
        reading.used.append(f"the bands {listed} are taken from {given}")
    if others := [name for name, band in zip(names, found, strict=True) if band not in bands]:
        reading.left_out.append(f"the bands {','.join(others)}")
    return tuple(found.index(band) for band in bands)


def model_bands(names: tuple[str, ...], bands: tuple[str, ...]) -> tuple[str, ...]:
    """Return the band of a model that each name means, such as r for "SDSS_r", or the name itself.

    FITS keywords are often upper case: "G" is g if no name is exactly a band of the model, and the model has no band G.
    """
    exact, by_lower_case = {band: band for band in bands}, {band.lower(): band for band in bands}
    found = tuple(_meaning(name, exact) for name in names)
    if len(by_lower_case) < len(bands):
        return found
    lower = tuple(_meaning(name.lower(), by_lower_case) for name in names)
    if not set(found) & set(bands):
        return lower
    # Another name may still be one of these bands, such as "HSC-R" beside "SDSS_r".
    return tuple(low if low in found and one not in bands else one for one, low in zip(found, lower, strict=True))


def _meaning(name: str, bands: dict[str, str]) -> str:
    """Return the only band of which a name has the letter as a word, or the name."""
    words = set(SEPARATORS.split(name.strip()))
    if any(map(OTHERS.fullmatch, words)):
        return name
    words |= {word.removesuffix(prime) for word in words for prime in PRIMES if word.removesuffix(prime) in bands}
    meant = {bands[word] for word in words if word in bands}
    return meant.pop() if len(meant) == 1 else name
