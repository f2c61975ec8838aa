"""List what a file of cutouts holds, one HDU, dataset or column at a time, and what each is taken for."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from photoz.errors import InvalidDataset, PhotozError, counted
from photoz.io import formats
from photoz.io.cutouts import Reading, refusing
from photoz.io.fits import contents, opened
from photoz.io.fits_header import ImageHeader
from photoz.io.fits_masks import RULES, with_masks
from photoz.io.fits_table import image_table
from photoz.io.formats import PARQUET, ZARR, Format, read_format
from photoz.io.npz import map_npy, member_headers
from photoz.io.options import ReadOptions

Item = tuple[tuple[int, ...], str, str]  # shape, type and unit


def list_contents(path: Path, options: ReadOptions) -> Iterator[str]:
    """Yield a line for each part of a file, also if its cutouts cannot be used.

    Raises `InvalidDataset`, `MalformedInput` or `UnsupportedType` if it cannot be read at all.
    """
    format = read_format(path)
    with refusing(f"{path} cannot be read"):
        if format is formats.FITS:
            yield from _list_fits(path, options)
        elif format is not None:
            yield from _list_items(ITEMS[format](path), path, options)


def _list_items(items: Mapping[str, Item], path: Path, options: ReadOptions) -> Iterator[str]:
    """Describe arrays by their names, with slashes after those of groups."""
    images, folder, kept = "", options.folder, list[str]()
    with suppress(InvalidDataset):
        images = options.image_column(items, path, ("images", "image"))
        near = {name.removeprefix(folder): item[0] for name, item in items.items() if name.startswith(folder)}
        beside = {name: shape for name, shape in near.items() if "/" not in name and folder + name != images}
        kept = options.beside(beside, items[images][0])[0]
    for name, (shape, kind, unit) in items.items():
        role = "column" if name.removeprefix(folder) in kept and name.startswith(folder) else "left out"
        role = f": {'images' if name == images else role}" if images else ""
        yield f"{name}: {_shape(shape)}{kind}{f', {unit}' if unit else ''}{role}"


def _shape(shape: tuple[int, ...]) -> str:
    return f"{'x'.join(map(str, shape))} " if shape else ""


def _kind(dtype: Any) -> str:
    """Return the type of numbers, or "text"."""
    base = np.dtype(dtype).base
    return "text" if base.kind in "USOT" else str(base.newbyteorder("="))


def _hdf5_items(path: Path) -> dict[str, Item]:
    items: dict[str, Item] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            items[name] = item.shape or (), _kind(item.dtype), str(item.attrs.get("unit", ""))

    with h5py.File(path, "r") as file:
        file.visititems(add)  # follows no links to other files
    return items


def _zarr_items(path: Path) -> dict[str, Item]:
    node: Any = ZARR.load("zarr").open(str(path), mode="r")
    arrays = dict(node.members(max_depth=None)) if hasattr(node, "members") else {"images": node}
    return {
        name: (array.shape, _kind(array.dtype), str(array.attrs.get("unit", "")))
        for name, array in arrays.items()
        if hasattr(array, "shape")
    }


def _parquet_items(path: Path) -> dict[str, Item]:
    with PARQUET.load("pyarrow.parquet").ParquetFile(path) as file:
        n, schema = file.metadata.num_rows, file.schema_arrow
    units = {name: (schema.field(name).metadata or {}).get(b"unit", b"").decode() for name in schema.names}
    return {name: ((n,), f"of {schema.field(name).type}", units[name]) for name in schema.names}


def _npz_items(path: Path) -> dict[str, Item]:
    return {name: (shape, _kind(dtype), "") for name, (shape, _, dtype) in member_headers(path).items()}


def _npy_items(path: Path) -> dict[str, Item]:
    array = map_npy(path)
    return {"images": (array.shape, _kind(array.dtype), "")}


ITEMS: Mapping[Format, Callable[[Path], dict[str, Item]]] = {
    formats.NPY: _npy_items,
    formats.NPZ: _npz_items,
    formats.HDF5: _hdf5_items,
    formats.ZARR: _zarr_items,
    formats.PARQUET: _parquet_items,
}


def _list_fits(path: Path, options: ReadOptions) -> Iterator[str]:
    """Describe the HDUs of a file in their order, each column of images by itself."""
    with path.open("rb") as stream, opened(stream, path, False) as hdus:
        headers = [ImageHeader(hdu, number, hdus[0].header, path) for number, hdu in enumerate(hdus)]
        roles: dict[Any, str] = {}
        with suppress(PhotozError):  # raised again when the file is opened
            images, tables, _ = contents(hdus, path, options)
            roles = _roles(images, tables, path, options)
        for header in headers:
            if header.hdu.is_image and header.hdu.shape:
                yield f"{_describe(header)}: {roles.get(header.hdu, 'left out')}"
            elif not header.hdu.is_image:
                columns = header.hdu.columns
                yield f"{header.name}: table, {counted(header.hdu.header['NAXIS2'], 'row')}"
                for name, (dtype, *_) in (columns.dtype.fields or {}).items():
                    unit = f", {columns[name].unit}" if columns[name].unit else ""
                    role = roles.get((header.hdu, name), "")
                    yield f"  {name}: {_shape(dtype.shape)}{_kind(dtype)}{unit}{role}"


def _roles(images: list[ImageHeader], tables: list[Any], path: Path, options: ReadOptions) -> dict[Any, str]:
    """Return what each HDU that is read is taken for, and the columns of images, by their HDU and name."""
    with_pixels = [header for header in images if len(header.hdu.shape) > 1]
    of_sky = [header for header in with_pixels if not header.kind]
    roles: dict[Any, str] = {header.hdu: f"left out: {header.kind_word or 'one axis'}" for header in images}
    for plane in with_masks(of_sky, [header for header in with_pixels if header.kind], Reading()):
        header = plane.header
        bands = header.filter or ",".join(header.bands())
        roles[header.hdu] = f"image of {'the bands' if ',' in bands else 'band'} {bands}" if bands else "image"
        for mask in plane.masks:
            roles[mask.hdu] = f"{mask.kind}: pixels are NaN where it is {RULES[mask.kind]}"
    if not of_sky:
        table, names, bands_of = image_table(tables, path, Reading(), options.column)
        roles |= {
            (table, name): f": images of band {band}" if band else ": images"
            for name, band in zip(names, bands_of, strict=True)
        }
    return roles


def _describe(header: ImageHeader) -> str:
    """Return the name, shape, type, unit and pixel scale of an image."""
    kind = np.dtype({8: "u1", -32: "f4", -64: "f8"}.get(bits := header.hdu.header["BITPIX"], f"i{abs(bits) // 8}"))
    text = f"{header.name}: {_shape(header.hdu.shape)}{kind}"
    if len(header.hdu.shape) < 2:
        return text
    with suppress(InvalidDataset):
        text += f", {header.pixel_unit()}"
    with suppress(InvalidDataset):
        text += f", {scale:.4g} arcsec" if (scale := header.pixel_scale()) else ""
    return text
