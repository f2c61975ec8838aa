"""Every error that this project raises on purpose, drawn once.

::

    PhotozError
    ├── InvalidInput            well-formed, but not usable
    │   ├── InvalidImages
    │   ├── InvalidEbv
    │   ├── InvalidRedshifts
    │   └── InvalidPdfs
    ├── MalformedInput          cannot be decoded at all
    ├── UnsupportedType         a format that nobody here reads or writes
    ├── TooLarge                over a limit that the message names
    ├── InvalidDataset          a file of cutouts that cannot be used
    └── InvalidBundle           a model folder that cannot be trusted

The message of each one is written for the person who made the call: it says what was found and what was
expected.
"""

import os


class PhotozError(Exception):
    """Root of the tree: catch it to catch everything that is raised on purpose."""


class InvalidInput(PhotozError, ValueError):
    """Well-formed input that cannot be used."""


class InvalidImages(InvalidInput):
    """Cutouts with a wrong shape, type, number of bands, or without one finite pixel."""


class InvalidEbv(InvalidInput):
    """Reddening of a wrong length, or outside of what the sky has."""


class InvalidRedshifts(InvalidInput):
    """Redshifts that are not finite or lie outside of the grid."""


class InvalidPdfs(InvalidInput):
    """PDFs of a wrong shape, negative, not finite, or without mass."""


class MalformedInput(PhotozError, ValueError):
    """Bytes that cannot be decoded."""


class UnsupportedType(PhotozError, ValueError):
    """A media type or a file format that is not read or written."""


class TooLarge(PhotozError, ValueError):
    """Input over a documented limit."""


class InvalidDataset(PhotozError, ValueError):
    """A file of cutouts that lacks what is needed of it."""


class InvalidBundle(PhotozError):
    """A model bundle whose schema, hashes, grid or shapes do not agree."""


def reason(error: Exception) -> str:
    """Return what is wrong with a file, for a sentence that names it already; of permissions, whom they lack."""
    if isinstance(error, PermissionError) and hasattr(os, "geteuid"):
        return f"permission denied to user {os.geteuid()}"
    return getattr(error, "strerror", None) or str(error)
