"""Validation of the arrays of a request, before they share a batch with those of other requests.

It raises `TooLarge` or `InvalidInput`.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz import pdf
from photoz.errors import InvalidInput, InvalidRedshifts, TooLarge, shortened
from photoz.estimates import Names, as_names
from photoz.grid import FloatArray
from photoz.images import Batch, as_reddening
from photoz.metrics import as_redshifts
from photoz.model.card import Card
from photoz.protocol.contract import MAX_OBJECT_ID

Arrays = dict[str, npt.NDArray[Any]]

# Code points that numpy accepts as text and nothing else does: beyond Unicode, and surrogates.
MAX_CODE, SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)

NUL = "expected {} as text, got a NUL character"

# Anything beyond, 99 for "not measured" too, would stretch the plots until nothing is seen.
MAX_MAGNITUDE = 50.0

# Column names that every format can hold.
COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,60}")

# A PDF is a fiftieth of a cutout of the shipped model, and metrics cannot be combined from parts.
PDFS_PER_CUTOUT = 25


@dataclass(frozen=True)
class LabelledGalaxies:
    """Galaxies to evaluate: those whose true redshift is on the grid."""

    z_spec: FloatArray  # (n,)
    object_id: Names  # (n,); by default their indices in the request
    dropped: tuple[str, ...]  # names of those that are not on the grid
    source: Batch | FloatArray  # cutouts to predict, or the PDFs of the request, (n, n_bins)
    magnitudes: FloatArray | None  # (n,)


def unpacked_limit(card: Card, max_rows: int) -> int:
    """Return the bytes of the largest request: float64 cutouts and PDFs, and 4 kB of columns for each galaxy."""
    return max_rows * (8 * math.prod(card.image.shape) + 8 * card.grid.n_bins + 4096)


def as_batch(arrays: Arrays, card: Card, max_rows: float = math.inf) -> Batch:
    """Validate at most `max_rows` galaxies to predict: `images` and, optionally, `ebv` and `object_id`."""
    if "images" not in arrays:
        raise InvalidInput(f"expected an array 'images', got {_listed(arrays)}")
    n = _count(arrays["images"], 4, max_rows)
    ebv = _ebv(arrays, n)
    return Batch.of(
        arrays["images"], card.image, ebv, card.inputs.ebv_default, _text_or_integers(arrays, n, "object_id")
    )


def as_labelled(arrays: Arrays, card: Card, max_rows: float = math.inf) -> LabelledGalaxies:
    """Validate galaxies to evaluate: `z_spec`, `images` or `pdfs` and, optionally, `ebv`, `object_id` and `magnitudes`.

    At most `max_rows` galaxies as cutouts, or 25 times as many as PDFs. Galaxies whose redshift is not on the grid are
    dropped before anything is predicted.
    """
    if ("images" in arrays) == ("pdfs" in arrays):
        raise InvalidInput("expected either images or pdfs beside z_spec, got both or neither")
    pdfs = _numbers(arrays, "pdfs")
    rows = arrays["images"] if pdfs is None else pdfs
    n = _count(rows, 4, max_rows) if pdfs is None else _count(rows, 2, PDFS_PER_CUTOUT * max_rows)
    z_spec, magnitudes, ebv = _z_spec(arrays, n), _magnitudes(arrays, n, card), _ebv(arrays, n)
    given_names = _text_or_integers(arrays, n, "object_id")
    object_id = np.arange(n) if given_names is None else given_names
    keep = card.grid.contains(z_spec)
    if not keep.any():
        raise InvalidRedshifts(f"no z_spec lies on the grid: expected 0 <= z_spec <= {card.grid.z_max:g}")
    chosen = rows if keep.all() else rows[keep]
    source: Batch | FloatArray
    if pdfs is None:
        source = Batch.of(chosen, card.image, ebv[keep], card.inputs.ebv_default, object_id[keep])
    else:
        source = pdf.as_pdfs(chosen, card.grid)
    return LabelledGalaxies(
        z_spec=z_spec[keep],
        object_id=object_id[keep],
        dropped=tuple(object_id[~keep].astype(np.str_).tolist()),
        source=source,
        magnitudes=None if magnitudes is None else magnitudes[keep],
    )


def as_table_columns(arrays: Arrays, card: Card, max_rows: float = math.inf) -> Arrays:
    """Validate columns of a table of at most 25 times as many rows: `object_id`, others (n,), and perhaps `pdf`.

    Returns them with types that every format can hold: bool, int16 to int64, float32, float64 or text.
    """
    if "object_id" not in arrays:
        raise InvalidInput(f"expected an array object_id, got {_listed(arrays)}")
    n = _count(arrays["object_id"], 1, PDFS_PER_CUTOUT * max_rows)
    if bad := [name for name in arrays if not COLUMN_NAME.fullmatch(name) or name.lower() == "z_edges"]:
        raise InvalidInput(f"expected names of letters, digits and _, and not z_edges, got {bad[0][:60]!r}")
    if len({name.lower() for name in arrays}) < len(arrays):
        raise InvalidInput("expected names that differ in more than case")
    return {name: _column(arrays, n, name, card) for name in arrays}


def _column(arrays: Arrays, n: int, name: str, card: Card) -> npt.NDArray[Any]:
    values = arrays[name]
    expected = (n, card.grid.n_bins) if name == "pdf" else (n,)
    if values.shape != expected or values.dtype.kind not in "biufUS":
        raise InvalidInput(
            f"expected {name} of shape {expected}, numbers or text, got shape {values.shape} and dtype {values.dtype}"
        )
    if values.dtype.kind in "US" or values.dtype == np.uint64 or name == "object_id":
        return np.asarray(_text_or_integers(arrays, n, name))
    if values.dtype.kind == "b":
        return values
    smallest = np.float32 if values.dtype.kind == "f" else np.int16
    return values.astype(min(np.promote_types(values.dtype, smallest), np.dtype(np.float64)))


def _numbers(arrays: Arrays, name: str) -> npt.NDArray[Any] | None:
    if name not in arrays:
        return None
    values = np.asarray(arrays[name])
    if values.dtype.kind not in "fiu":
        raise InvalidInput(f"expected {name} as real numbers, got dtype {values.dtype}")
    return values


def _listed(arrays: Arrays) -> str:
    return shortened(", ".join(arrays) or "none", 200)  # in a .npz file a name may have 65,535 characters


def _count(rows: npt.NDArray[Any], n_axes: int, max_rows: float) -> int:
    """Return the number of galaxies; images of one may lack the first axis, and other shapes are refused later."""
    n = len(rows) if rows.ndim == n_axes else 1
    if n > max_rows:
        raise TooLarge(f"expected at most {max_rows:,} galaxies in one request, got {n:,}: send them in parts")
    return n


def _ebv(arrays: Arrays, n: int) -> npt.NDArray[np.float32]:
    return as_reddening(_numbers(arrays, "ebv"), n)


def _text_or_integers(arrays: Arrays, n: int, name: str) -> Names | None:
    """Return a column of text or integers, (n,), as text or int64."""
    if name not in arrays:
        return None
    given = np.asarray(arrays[name])
    if given.shape != (n,) or given.dtype.kind not in "OUTSiu":
        raise InvalidInput(f"expected {name} as {n} names or integers, got shape {given.shape} and dtype {given.dtype}")
    longest = 0
    if given.dtype.kind in "US":
        longest = int(np.char.str_len(given).max(initial=1))
    elif given.dtype.kind == "O":
        longest = max(map(len, given), default=0)
        if any("\0" in name for name in given):  # numpy drops it at the end of a text
            raise InvalidInput(NUL.format(name))
    if longest > MAX_OBJECT_ID:  # before each takes the memory of the longest
        raise InvalidInput(f"expected {name} of at most {MAX_OBJECT_ID} characters, got one of {longest:,}")
    if given.dtype.kind in "US":  # as wide as the file declares, perhaps millions of times its longest name
        given = given.astype(np.dtype((given.dtype.type, longest)))
    try:
        names = np.ascontiguousarray(as_names(given))
    except ValueError as error:  # UnicodeError is one
        raise InvalidInput(f"expected {name} as text, got other bytes: {error}") from error
    if names.dtype.kind == "i":
        return names
    codes = names.view(np.uint32).reshape(n, names.dtype.itemsize // 4)
    if ((codes[:, :-1] == 0) & (codes[:, 1:] != 0)).any():  # at the end it is numpy's padding
        raise InvalidInput(NUL.format(name))
    if np.any((codes > MAX_CODE) | ((codes >= SURROGATES[0]) & (codes <= SURROGATES[1]))):
        raise InvalidInput(f"expected {name} as text, got code points that are not Unicode characters")
    return names


def _z_spec(arrays: Arrays, n: int) -> FloatArray:
    z_spec = _numbers(arrays, "z_spec")
    if z_spec is None:
        raise InvalidRedshifts(f"expected the true redshifts as z_spec, got {_listed(arrays)}")
    return as_redshifts(z_spec, n)


def _magnitudes(arrays: Arrays, n: int, card: Card) -> FloatArray | None:
    """Return one magnitude per galaxy; of several bands, that of r or of the middle one."""
    magnitudes, bands = _numbers(arrays, "magnitudes"), card.image.bands
    if magnitudes is None:
        return None
    if magnitudes.shape == (n, len(bands)):
        magnitudes = magnitudes[:, bands.index("r") if "r" in bands else len(bands) // 2]
    if magnitudes.shape != (n,):
        raise InvalidInput(f"expected {n} magnitudes, one for each galaxy, got shape {magnitudes.shape}")
    magnitudes = magnitudes.astype(np.float64)
    if (bad := np.abs(magnitudes) > MAX_MAGNITUDE).any():
        raise InvalidInput(
            f"expected magnitudes from -{MAX_MAGNITUDE:g} to {MAX_MAGNITUDE:g}, or NaN, got {magnitudes[bad][0]:g}"
        )
    return magnitudes
