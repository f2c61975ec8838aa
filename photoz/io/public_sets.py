"""Published sets of cutouts, recognised by what their files hold.

GalaxiesML (Do et al. 2024), ssl-legacysurvey (Stein et al. 2021) and the Multimodal Universe are HDF5 files, which
`photoz.io.hdf5` opens; PICZL (Roster et al. 2024) is a folder. Bands come first in all of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.io.catalogue_files import read_table
from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Column, Cutouts, LazyImages, Reading, check_lengths
from photoz.io.layout import NANOMAGGY, same_scale
from photoz.io.npz import map_npy


@dataclass(frozen=True)
class PublicSet:
    """A published layout of HDF5 files, and what the files do not say about their images."""

    title: str
    images: str = ""  # dataset (n, n_bands, size, size)
    others: tuple[str, ...] = ()  # datasets by which it is recognised too
    names: tuple[tuple[str, ...], ...] = (("object_id",),)  # columns that identify a galaxy together, best first
    bands: str = ""  # in the order of their axis
    pixel_scale: float = 0.0  # arcsec
    unit: str = ""  # of the pixels
    zero_point: float | None = None  # instead of a unit


# The zero point of HSC's coadds is 27. PICZL's unit and scale were found by photometry in the catalogue's apertures.
GALAXIES_ML = PublicSet(
    "GalaxiesML", "image", ("object_id", "g_cmodel_mag"), bands="grizy", pixel_scale=0.168, zero_point=27.0
)
SSL_LEGACYSURVEY = PublicSet(
    "ssl-legacysurvey",
    "images",
    ("inds", "psfsize"),
    (("release", "brickid", "objid"), ("inds",)),  # objid is the number in a brick
    "grz",
    0.262,
    NANOMAGGY,
)
UNIVERSE = PublicSet("the Multimodal Universe", "image_array", ("image_band", "image_scale", "object_id"))
HDF5_SETS = (GALAXIES_ML, SSL_LEGACYSURVEY, UNIVERSE)

# What the Multimodal Universe does not say, by the camera in names of bands such as "hsc-g".
CAMERAS: Mapping[str, dict[str, Any]] = {"hsc": {"zero_point": 27.0}, "des": {"unit": NANOMAGGY}}

# Masks of the Multimodal Universe, for all bands or each: True for good pixels, whatever their name suggests.
MASKS = ("image_mask", "bit_mask")

# Splits of GalaxiesML by a word in the file's name.
SPLITS = {"_training_": TRAIN, "_validation_": VALIDATION, "_testing_": TEST}

# Images of PICZL, (n_bands, n, size, size), and what they are.
PICZL_IMAGES = "processed_dered_griz_images.npy"
PICZL = PublicSet("PICZL", bands="griz", pixel_scale=0.262, unit=NANOMAGGY)


def read_public_set(datasets: Mapping[str, Any], read_column: Callable[[Any], Column], path: Path) -> Cutouts | None:
    """Return the cutouts of an HDF5 file in a published layout, given its datasets; None for any other file."""
    found = next((known for known in HDF5_SETS if {known.images, *known.others} <= datasets.keys()), None)
    if found is None:
        return None
    tables = {name: dataset for name, dataset in datasets.items() if dataset.ndim <= 2}
    images: Any = datasets[found.images]
    check_lengths(images.shape, tables)
    columns = {name: read_column(dataset) for name, dataset in tables.items()}
    unused = datasets.keys() - tables.keys() - {found.images}
    assumed = []
    if found is UNIVERSE:
        found = _described(columns.pop("image_band"), columns.pop("image_scale"), path)
        if mask := next((name for name in MASKS if name in unused), None):
            images = _masked(images, datasets[mask], mask)
            unused -= {mask}
            assumed.append(f"{mask} is True for good pixels; the others are NaN")
    split = next((split for word, split in SPLITS.items() if word in path.name), None)
    if found is GALAXIES_ML and split:
        columns["split"] = np.full(len(images), split)
        assumed.append("the split is that in the name of the file")
    names = next(names for names in found.names if set(names) <= columns.keys())
    parts = zip(*(columns[name].astype(np.str_).tolist() for name in names), strict=True)
    columns["object_id"] = np.array(["-".join(part) for part in parts], dtype=np.str_)
    if names != ("object_id",):
        assumed.append(f"object_id is {'-'.join(names)}")
    left_out = [f"the datasets {', '.join(sorted(unused))}"] if unused else []
    return _cutouts(found, images, columns, assumed, left_out)


def _cutouts(
    found: PublicSet, images: Any, columns: Mapping[str, Column], assumed: list[str], left_out: list[str]
) -> Cutouts:
    unit = found.unit or f"the zero point {found.zero_point:g}"
    first = f"the set is {found.title}: bands {','.join(found.bands)}, {unit}, {found.pixel_scale:g} arcsec per pixel"
    return Cutouts(
        images,
        columns,
        provenance=f"cutouts in the layout of {found.title}",
        bands=tuple(found.bands),
        unit=found.unit,
        zero_point=found.zero_point,
        pixel_scale=found.pixel_scale,
        reading=Reading(assumed=[first, *assumed], left_out=left_out),
    )


def _described(image_band: Column, image_scale: Column, path: Path) -> PublicSet:
    """Describe images of the Multimodal Universe by the bands and pixel scales (n, n_bands) of its galaxies."""
    rows = [",".join(bands) for bands in np.unique(image_band.astype(np.str_), axis=0)]
    if len(rows) != 1:
        raise InvalidDataset(f"expected the same image_band for all galaxies in {path}, got {'; '.join(rows[:3])}")
    cameras, bands = zip(*(band.rpartition("-")[::2] for band in rows[0].split(",")), strict=True)
    if len(set(cameras)) != 1 or cameras[0] not in CAMERAS or max(map(len, bands)) > 1:
        raise InvalidDataset(f"expected image_band of one camera, such as hsc-g or des-g, in {path}, got {rows[0]}")
    low, high = float(np.min(image_scale)), float(np.max(image_scale))
    if not low > 0 or not same_scale(low, high):
        raise InvalidDataset(f"expected one image_scale for all galaxies in {path}, got {low:g} to {high:g} arcsec")
    return replace(UNIVERSE, bands="".join(bands), pixel_scale=round(low, 6), **CAMERAS[cameras[0]])


def _masked(images: Any, mask: Any, name: str) -> LazyImages:
    """Return images whose pixels outside the mask, (n, size, size) or with one for each band, are NaN."""
    if mask.shape not in (images.shape, (*images.shape[:1], *images.shape[2:])):
        raise InvalidDataset(f"expected {name} of the shape of the images, {images.shape}, got {mask.shape}")
    return LazyImages(partial(_read_masked, images, mask), np.array(images.shape[:1]), tuple(images.shape[1:]))


def _read_masked(images: Any, mask: Any, _: int, rows: slice) -> npt.NDArray[Any]:
    pixels, good = np.asarray(images[rows]), np.asarray(mask[rows], dtype=bool)
    return np.where(good if good.ndim == pixels.ndim else good[:, np.newaxis], pixels, np.float32(np.nan))


def find_piczl(folder: Path) -> Path | None:
    """Return the images of a folder in PICZL's layout, which are in it or in a folder in it; None for any other."""
    return next((path for pattern in ("", "*/") for path in sorted(folder.glob(pattern + PICZL_IMAGES))), None)


def open_piczl(folder: Path, path: Path) -> Cutouts:
    """Open the images at `path` and the only FITS catalogue in the folder; raises `InvalidDataset`."""
    array = map_npy(path)
    if array.ndim != 4 or len(array) != len(PICZL.bands):
        raise InvalidDataset(f"expected images of the bands g,r,i,z, (4, n, size, size), in {path}, got {array.shape}")
    catalogues = sorted(folder.glob("*.fits"))
    if len(catalogues) != 1:
        listed = ", ".join(catalogue.name for catalogue in catalogues) or "none"
        raise InvalidDataset(
            f"expected one catalogue, a .fits file with a row for each cutout, in {folder}, got {listed}"
        )
    images = LazyImages(
        lambda _, rows: np.moveaxis(array[:, rows], 0, 1), np.array(array.shape[1:2]), (len(array), *array.shape[2:])
    )
    columns = dict(read_table(catalogues[0], {}).columns)
    columns["ebv"] = np.zeros(images.shape[0])
    assumed = ["the images are dereddened, so E(B-V) is 0", f"{path.name} has the only images that are used"]
    if "FULLID" in columns:
        columns["object_id"] = columns.pop("FULLID")
        assumed.append("the column FULLID is object_id")
    return _cutouts(PICZL, images, columns, assumed, [])
