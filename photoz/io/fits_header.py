"""What the header of a FITS image says about it: its kind, band, unit, pixel scale and position.

A keyword that its own header lacks is looked for in the primary header of the file.
"""

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray
from photoz.images import parse_bands
from photoz.io.cutouts import refusing
from photoz.io.layout import same_scale
from photoz.io.pixel_units import PixelUnit, read_pixel_unit
from photoz.io.unread import find_unread

# Kinds of images that are no images of the sky, by a word of their name or type.
WEIGHT, MASK, OTHER = "weight", "mask", "other"
KINDS: Mapping[str, str] = {
    **dict.fromkeys(("IVAR", "INVVAR", "WEIGHT", "WEIGHTS", "WHT", "WGT", "WT"), WEIGHT),
    **dict.fromkeys(("MASK", "MSK", "BPM", "DQ", "FLAG", "FLAGS", "DQMASK", "OOI"), MASK),
    **dict.fromkeys(("PSF", "MODEL", "SKY", "BKG", "BACK", "BACKGROUND", "RESID", "RESIDUAL", "RESIDUALS"), OTHER),
    **dict.fromkeys(("CHI", "NEXP", "EXP", "EXPMAP", "COVERAGE", "MASKBITS", "SEG", "SEGM", "SEGMENTATION"), OTHER),
    **dict.fromkeys(("VAR", "VARIANCE", "ERR", "ERROR", "SIGMA", "RMS", "UNC", "UNCERT", "STD", "STDDEV"), OTHER),
    **dict.fromkeys(("UNCERTAINTY", "NOISE", "SIG", "STDEV", "CONFIDENCE", "CONF", "CTX", "WHTMAP", "EXPOSURE"), OTHER),
    **dict.fromkeys(("BIAS", "DARK", "FLAT", "BADPIX", "WEIGHTMAP", "SNR", "NIMG", "STAT", "INVERSE"), OTHER),
}
NAMES_OF_KIND = ("IMAGETYP", "EXTTYPE", "OBSTYPE", "IMTYPE", "HDUCLAS2", "HDUCLAS3")

# Keywords for the AB magnitude of a pixel with the value 1. FLUXMAG0 is the value of a pixel with the magnitude 0.
ZERO_POINTS = (
    "MAGZERO",
    "MAGZPT",
    "MAGZP",
    "ZEROPNT",
    "PHOTZP",
    "ZP",
    "ZPT",
    "SEXMGZPT",
    "ZEROPOINT",
    "ZEROPT",
    "ABMAGZP",
)
FLUX_OF_ZERO = "FLUXMAG0"

# The zero point of 1 count per second in PS1's images, whose pixels are counts of the whole exposure.
PER_SECOND = "FPA.ZP"

# Factors between pixels and counts in a second, to which a zero point may refer; units that leave no doubt.
EXPOSURE, PER_SECONDS = ("EXPTIME", "FLXSCALE"), re.compile(r"/ *s|s\^?-1|cps", re.IGNORECASE)

# Keywords for the system of magnitudes, and those of PS1's asinh scale.
OTHER_SYSTEM = re.compile(r"VEGA|\bST(MAG)?\b|JOHNSON|COUSINS|BESSELL?|GAIA", re.IGNORECASE)
SYSTEMS = ("MAGSYS", "MAGTYPE", "PHOTSYS", "ZPSYS", "MAG_SYS", "VEGAMAG")
ASINH = ("BSOFTEN", "BOFFSET")

# Keywords for the pixel scale in arcsec, each of an axis or of both.
SCALES = (
    ("PIXSCALE",),
    ("PIXSCAL",),
    ("SECPIX",),
    ("PIXSCAL1", "PIXSCAL2"),
    ("SECPIX1", "SECPIX2"),
    ("PIXELSCL",),
    ("PIXSIZE",),
)

BANDS = ("FILTER", "BAND", "FILTNAM", "FILTNAME")

WORDS = re.compile(r"[\s_.\-:]+")

# Keywords that no world coordinates need: astropy parses what it is given three times.
NOT_OF_WCS = frozenset(
    ("", "COMMENT", "HISTORY", "SIMPLE", "XTENSION", "BITPIX", "PCOUNT", "GCOUNT", "EXTNAME", "EXTVER", "CHECKSUM")
    + ("DATASUM", "ORIGIN", "BUNIT", "BANDS", *BANDS, *ZERO_POINTS, "OBJECT", "OBJID", "EXPTIME", "GAIN")
)


@lru_cache(16)
def _shared(keywords: frozenset[str]) -> frozenset[str]:
    """Return the same set for the headers of a file that have the same keywords; astropy looks slowly for them."""
    return keywords


def has_icrs(wcs: Any) -> bool:
    """Return whether the coordinates of a WCS are right ascension and declination, ICRS or FK5 of J2000."""
    is_2000 = wcs.wcs.equinox == 2000 or math.isnan(wcs.wcs.equinox)
    return bool(wcs.wcs.lngtyp.strip() == "RA" and wcs.wcs.radesys.strip().upper() in ("", "ICRS", "FK5") and is_2000)


class ImageHeader:
    """An image in a FITS file, and its header together with the primary header."""

    def __init__(self, hdu: Any, number: int, primary: Any, path: object) -> None:
        self.hdu = hdu
        inherited = () if hdu.header.get("INHERIT", True) is False else (primary,)
        self._headers = [(header, _shared(frozenset(header))) for header in (hdu.header, *inherited)]
        self._index, self._path = number, path

    @property
    def name(self) -> str:
        """What messages call it."""
        name = self.hdu.name
        return f"{name} (HDU {self._index})" if name and name != "PRIMARY" else f"HDU {self._index}"

    @property
    def where(self) -> str:
        """Its name and that of its file."""
        return f"{self.name} in {self._path}"

    @property
    def is_scaled(self) -> bool:
        """Whether pixels are not stored as they are meant."""
        return self.own("BSCALE", "BZERO", "BLANK") is not None

    def get(self, *keywords: str) -> Any:
        """Return the value of the first keyword that either header has, the image's own before the primary's."""
        return next((header[key] for header, keys in self._headers for key in keywords if key in keys), None)

    def text(self, *keywords: str) -> str:
        """Return such a value as text, "" if there is none."""
        value = self.get(*keywords)
        return "" if value is None else str(value).strip()

    @cached_property
    def kind(self) -> str:
        """What the image is: weight, mask or other; "" for an image of the sky."""
        return KINDS.get(self.kind_word, "")

    @cached_property
    def kind_word(self) -> str:
        """The word that tells its kind in its name, or in the type that its own header gives; "" if there is none."""
        types = [self.hdu.name, *(str(self.own(key) or "") for key in NAMES_OF_KIND)]
        words = (word.rstrip("0123456789") for text in types for word in WORDS.split(text.upper()))
        return next((word for word in words if word in KINDS), "")

    def own(self, *keywords: str) -> Any:
        """Return the value of the first keyword that the image's own header has."""
        header, keys = self._headers[0]
        return next((header[key] for key in keywords if key in keys), None)

    def unread(self, columns: Sequence[str] = ()) -> dict[str, list[str]]:
        """Return keywords, and columns of a table, that may say what no keyword says that is known."""
        values = {
            key: header[key] for header, _ in reversed(self._headers) for key in header if key not in ("", "BUNIT")
        }
        if not self.hdu.is_image or self.is_scaled or values["BITPIX"] < 0:  # only whole numbers are counts
            del values["BITPIX"]
        return find_unread({**dict.fromkeys(columns, ()), **values})

    @property
    def filter(self) -> str:
        """Band of an image of two axes, by its own header, "" if that has none."""
        return str(self.own(*BANDS) or "").strip()

    def bands(self) -> tuple[str, ...]:
        """Names of the bands of an image with an axis of bands, in its order, () if the headers have none.

        Raises `InvalidDataset` if two statements disagree.
        """
        listed = tuple(map(str.strip, parse_bands(self.text("BANDS", "FILTERS", *BANDS))))
        for header, keys in self._headers:
            for first in (0, 1):
                if f"BAND{first}" in keys:
                    numbered = [f"BAND{number}" for number in range(first, 100) if f"BAND{number}" in keys]
                    names = tuple(str(header[key]).strip() for key in numbered)
                    if self.get("BANDS") is not None and listed != names:
                        raise InvalidDataset(
                            f"{self.where} contradicts itself: {numbered[0]} to {numbered[-1]} are {','.join(names)}, "
                            f"and BANDS is {','.join(listed)}; correct one of them"
                        )
                    return names
        return listed

    def pixel_unit(self) -> PixelUnit:
        """Return what pixels are worth; raises `InvalidDataset` if the headers contradict each other."""
        if asinh := [key for key in ASINH if self.get(key) is not None]:
            raise InvalidDataset(
                f"{self.where} has {' and '.join(asinh)}: its pixels are on an asinh scale, expected fluxes"
            )
        for key in SYSTEMS:
            if OTHER_SYSTEM.search(f"{key} {self.text(key)}") and self.get(key) not in (None, False):
                raise InvalidDataset(
                    f"{self.where} has {key} = {self.text(key)}: expected a zero point on the AB system"
                )
        points = {key: self._number(key) for key in ZERO_POINTS if self.get(key) is not None}
        if self.get(FLUX_OF_ZERO) is not None:
            points[FLUX_OF_ZERO] = 2.5 * math.log10(self._above_0(FLUX_OF_ZERO))
        if self.get(PER_SECOND) is not None:
            points[f"{PER_SECOND} with EXPTIME"] = self._number(PER_SECOND) + 2.5 * math.log10(self._above_0("EXPTIME"))
        return read_pixel_unit(self.text("BUNIT"), points, self.where)

    def exposure(self) -> str:
        """Return in words that a zero point may be that of 1 s, "" if the header does not suggest it."""
        named = [f"{key} = {self.text(key)}" for key in EXPOSURE if self.text(key) not in ("", "0.0", "1.0", "1")]
        if not named or PER_SECONDS.search(self.text("BUNIT")) or self.get(PER_SECOND) is not None:
            return ""
        return f"the zero point is that of the pixels as they are, whatever {' and '.join(named)}"

    def _above_0(self, key: str) -> float:
        if not (value := self._number(key)) > 0:
            raise InvalidDataset(f"{self.where} has {key} = {value:g}: expected a number above 0")
        return value

    def _number(self, key: str) -> float:
        value = self.get(key)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InvalidDataset(f"{self.where} has {key} = {value!r}: expected a number")
        return number

    def read_wcs(self) -> Any:
        """Return the `astropy.wcs.WCS` of the two axes of pixels, of 10 kB; None if the headers have none."""
        header = next((h for h, keys in self._headers if "CTYPE1" in keys and str(h["CTYPE1"]).strip()), None)
        if header is None:
            return None
        from astropy.wcs import WCS, FITSFixedWarning

        with refusing(f"correct or remove the world coordinates of {self.where}"), warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            cards = (str(card) for card in header.cards if card.keyword not in NOT_OF_WCS)
            wcs = WCS("".join(cards), naxis=2)
            return wcs if wcs.has_celestial else None

    @cached_property
    def _sky(self) -> tuple[FloatArray | None, tuple[float, ...]] | None:
        """ICRS coordinates (`positions`), and width and height of a pixel in arcsec, by the WCS."""
        if (wcs := self.read_wcs()) is None:
            return None
        from astropy.wcs.utils import proj_plane_pixel_scales

        with refusing(f"correct or remove the world coordinates of {self.where}"):
            scales = tuple(3600.0 * float(scale) for scale in proj_plane_pixel_scales(wcs))
            return self._positions(wcs), scales

    def _positions(self, wcs: Any) -> FloatArray | None:
        height, width = self.hdu.shape[-2:]
        pixels = np.array([(width - 1) / 2, 0.0]), np.array([(height - 1) / 2, 0.0])
        if has_icrs(wcs):
            values = wcs.pixel_to_world_values(*pixels)  # a tenth of the time
            return np.stack(values if wcs.wcs.lng == 0 else values[::-1])
        if wcs.wcs.lngtyp.strip() not in ("RA", "GLON"):
            return None  # astropy takes ecliptic coordinates for ICRS
        sky = wcs.pixel_to_world(*pixels).icrs
        return np.stack([sky.ra.deg, sky.dec.deg])

    def positions(self) -> FloatArray | None:
        """Return right ascension and declination (ICRS, degrees) of the centre and of the first pixel, (2, 2)."""
        return None if self._sky is None else self._sky[0]

    def centre(self) -> tuple[float, float] | None:
        """Return right ascension and declination (ICRS) in degrees, if the header has a WCS or RA and DEC."""
        if (positions := self.positions()) is not None:
            return float(positions[0, 0]), float(positions[1, 0])
        given = self.get("RA"), self.get("DEC")
        is_given = all(isinstance(value, int | float) for value in given) and self.get("EQUINOX") in (None, 2000.0)
        return given if is_given and self._sky is None else None

    def pixel_scale(self) -> float | None:
        """Return the width of a pixel in arcsec, if the headers have it.

        Raises `InvalidDataset` if its height is another, or two statements disagree.
        """
        widths = dict(self._scales())
        for name, scales in widths.items():
            if not same_scale(scales[0], scales[-1]):
                raise InvalidDataset(
                    f"{self.where} has pixels of {scales[0]:.4g} x {scales[-1]:.4g} arcsec by its {name}: expected "
                    "square ones"
                )
        if not widths:
            return None
        (first, scales), *others = widths.items()
        for name, other in others:
            if not same_scale(other[0], scales[0]):
                raise InvalidDataset(
                    f"{self.where} contradicts itself: pixels are {scales[0]:.4g} arcsec wide by its {first}, and "
                    f"{other[0]:.4g} by its {name}; correct one of them"
                )
        return sum(scales) / len(scales)

    def _scales(self) -> Iterator[tuple[str, tuple[float, ...]]]:
        """Yield what says how wide and high pixels are, and these in arcsec."""
        if self._sky is not None:
            yield "WCS", self._sky[1]
        elif not self.text("CTYPE1") and all(self.hdu.header.get(f"CDELT{axis}", 1.0) != 1.0 for axis in (1, 2)):
            yield "CDELT1 and CDELT2", tuple(3600.0 * abs(self._number(f"CDELT{axis}")) for axis in (1, 2))
        for keys in SCALES:
            if all(self.get(key) is not None for key in keys):
                yield " and ".join(keys), tuple(map(self._above_0, keys))
