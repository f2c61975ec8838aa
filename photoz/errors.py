"""The exceptions of this project.

::

    PhotozError
    ├── InvalidInput            well-formed, but not usable
    │   ├── InvalidImages
    │   ├── InvalidEbv
    │   ├── InvalidRedshifts
    │   └── InvalidPdfs
    ├── MalformedInput          cannot be decoded
    ├── UnsupportedType         a media type or file format that is not supported
    ├── TooLarge                over a documented limit
    ├── InvalidDataset          a file of cutouts that cannot be used
    └── InvalidBundle           a model bundle that cannot be used

Messages are for the caller: they say what was found and what was expected. They are one line without control
characters, whatever the names of files and objects in them hold.
"""

import os


class PhotozError(Exception):
    """Base class of every exception that this project raises deliberately."""

    def __str__(self) -> str:
        return printable(super().__str__())


class InvalidInput(PhotozError, ValueError):
    """Well-formed input that cannot be used."""


class InvalidImages(InvalidInput):
    """Cutouts with a wrong shape, type or number of bands, or without a finite pixel."""


class InvalidEbv(InvalidInput):
    """Reddening of a wrong length, or outside of the valid range."""


class InvalidRedshifts(InvalidInput):
    """Redshifts that are not finite or not on the grid."""


class InvalidPdfs(InvalidInput):
    """PDFs of a wrong shape, negative, not finite, or without mass."""


class MalformedInput(PhotozError, ValueError):
    """Bytes that cannot be decoded."""


class UnsupportedType(PhotozError, ValueError):
    """A media type or a file format that is not supported."""


class TooLarge(PhotozError, ValueError):
    """Input over a documented limit."""


class InvalidDataset(PhotozError, ValueError):
    """A file of cutouts that is damaged or incomplete."""


class InvalidBundle(PhotozError):
    """A model bundle whose schema, hashes, grid or shapes do not agree."""


def reason(error: Exception) -> str:
    """Return why a file cannot be read, without its name; for a lack of permission, with the user's number."""
    if isinstance(error, PermissionError) and hasattr(os, "geteuid"):
        return f"permission denied to user {os.geteuid()}"
    return getattr(error, "strerror", None) or " ".join(str(error).split())


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: "1 row", "2,000 rows", "0 galaxies"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else plural}"


def shortened(text: str, most: int) -> str:
    """Cut a text that a client may have made as long as it likes to `most` characters."""
    return text if len(text) <= most else text[: most - 3] + "..."


def printable(text: str) -> str:
    r"""Escape line ends and control characters, as ``\x1b``: terminals obey them, FITS and XML cannot hold them."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
