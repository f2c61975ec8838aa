"""HDF5, Zarr, Parquet, npz and npy: what describes the images, where it is, and the axes and types of the images."""

import numpy as np

from tests.layouts.galaxies import BANDS, EBV, IDS, IMAGES, JANSKY, PLANES, SCALE, Z_SPEC, Layout, N, factor_of
from tests.layouts.stores import DESCRIBED, row

NJY = (IMAGES * np.float64(JANSKY * 1e9)).astype(np.float32)
AT_25 = (IMAGES * np.float64(factor_of(25.0))).astype(np.float32)
GEOMETRY = {"bands": "u,g,r,i,z", "pixel_scale": SCALE}
COUNTS = {"zero_point": 31.0, **GEOMETRY}
NAN = IMAGES.copy()
NAN[:, 4:9, 50:60, 1] = np.nan
EMPTY = IMAGES.copy()
EMPTY[1] = np.nan


def padded(height: int, width: int) -> np.ndarray:
    """Return images in the centre of larger ones with random pixels."""
    larger = np.random.default_rng(0).normal(scale=0.05, size=(N, height, width, 5)).astype(np.float32)
    top, left = (height - 64) // 2, (width - 64) // 2
    larger[:, top : top + 64, left : left + 64] = IMAGES
    return larger


# Pixels, attributes, and what is said or refused.
DESCRIPTIONS = {
    "unit": (NJY, {**GEOMETRY, "unit": "nJy"}, {"said": {"used": "multipl"}}),
    "unit and band list": (IMAGES, {**DESCRIBED, "bands": list(BANDS)}, {}),
    "letters of bands": (IMAGES, {**DESCRIBED, "bands": BANDS}, {}),
    "other order of bands": (IMAGES[..., ::-1], {**DESCRIBED, "bands": list(BANDS[::-1])}, {}),
    "zero point": (AT_25, {**GEOMETRY, "zero_point": 25.0}, {"said": {"used": "multipl"}}),
    "counts with a zero point": (AT_25, {**GEOMETRY, "zero_point": 25.0, "unit": "counts"}, {}),
    "zero point of each band": (
        (IMAGES * [factor_of(value) for value in (25, 26, 27, 28, 30)]).astype(np.float32),
        {**GEOMETRY, "zero_point": [25.0, 26.0, 27.0, 28.0, 30.0]},
        {},
    ),
    "redundant": (IMAGES, {**DESCRIBED, "zero_point": 22.5}, {}),
    "contradiction": (AT_25, {**DESCRIBED, "zero_point": 25.0}, {"refused": ["nanomaggy", "25", "zero.point"]}),
    "counts": (AT_25, {**GEOMETRY, "unit": "counts"}, {"refused": ["counts", "zero.point"]}),
    "unknown unit": (IMAGES, {**GEOMETRY, "unit": "kelvin"}, {"refused": ["kelvin"]}),
    "pixel scale of 0.262": (IMAGES, {**DESCRIBED, "pixel_scale": 0.262}, {"refused": [r"0\.262", "arcsec|scale"]}),
    "a band too few": (IMAGES[..., 1:], {**DESCRIBED, "bands": list("griz")}, {"refused": [r"\bu\b"]}),
    "an extra band": (
        np.concatenate([IMAGES, IMAGES[..., :1]], axis=-1),
        {**DESCRIBED, "bands": ["u", "g", "r", "i", "z", "W1"]},
        {"said": {"left_out": "W1"}},
    ),
}
# Names that are not known, and the property that they may describe.
UNREAD = {"units": "nJy", "BUNIT": "nJy", "flux_unit": "nJy", "zeropoint": 25.0, "zp": 25.0, "mag_zero": 25.0}
UNREAD |= {"pixscale": 0.2, "plate_scale": 0.2, "filters": "z,i,r,g,u", "channels": "z,i,r,g,u"}
# Pixels and attributes of all kinds.
PIXELS = {
    "bands first": (PLANES, DESCRIBED, {}),
    "float16": (IMAGES.astype(np.float16), DESCRIBED, {}),
    "float64": (IMAGES.astype(np.float64), DESCRIBED, {}),
    "big-endian": (IMAGES.astype(">f4"), DESCRIBED, {}),
    "int32 counts": (np.rint(IMAGES * factor_of(31.0)).astype(np.int32), COUNTS, {}),
    "int16 counts": (np.rint(IMAGES * factor_of(30.0)).astype(np.int16), COUNTS | {"zero_point": 30.0}, {}),
    "NaN": (NAN, DESCRIBED, {"images": NAN}),
    "a cutout of NaN": (EMPTY, DESCRIBED, {"images": EMPTY}),
    "80x96 pixels": (padded(80, 96), DESCRIBED, {"said": {"used": "central"}}),
    "128 pixels, bands first": (np.moveaxis(padded(128, 128), -1, 1), DESCRIBED, {"said": {"used": "central"}}),
    "48 pixels": (IMAGES[:, 8:56, 8:56], DESCRIBED, {"refused": ["48", "64"]}),
    "5x64 pixels": (PLANES[..., :5], DESCRIBED, {"refused": ["axis|axes|shape|pixels"]}),
    "bands before galaxies": (np.moveaxis(PLANES, 1, 0), DESCRIBED, {"refused": ["axis|axes|shape"], "or_right": True}),
}
LAYOUTS: dict[str, Layout] = {}
for kind in ("h5", "zarr", "parquet", "npz"):
    for name, (pixels, about, expected) in DESCRIPTIONS.items():
        LAYOUTS[f"{kind} with {name}"] = row(kind, pixels=pixels, about=about, **expected)
        if kind != "npz" and "list" not in name and "order" not in name:
            LAYOUTS[f"{kind} with {name} of the images"] = row(kind, pixels=pixels, about={}, own=about, **expected)
    for name, (pixels, about, expected) in PIXELS.items():
        if (kind, name) not in {("parquet", "big-endian"), ("parquet", "80x96 pixels")}:
            LAYOUTS[f"{kind}, {name}"] = row(kind, pixels=pixels, about=about, **expected)
    LAYOUTS |= {f"{kind} with {name}": row(kind, about={name: value}, refused=[name]) for name, value in UNREAD.items()}
    if kind != "npz":
        points = {"zero_point": np.full(N, 25.0)}
        LAYOUTS[f"{kind} with a zero point of each galaxy"] = row(kind, points, about=GEOMETRY, refused=["zero_point"])
    for name in ("ivar", "mask", "images_convolved") if kind != "parquet" else ():
        LAYOUTS[f"{kind}, {name} beside"] = row(
            kind, {name: np.ones_like(IMAGES)}, said={"left_out": name}, absent=[name]
        )
    LAYOUTS[f"{kind} with nothing"] = row(kind, about={}, said={"assumed": "nanomagg"})
for kind in ("h5", "zarr"):
    own = {"scale_factor": 0.001}
    LAYOUTS[f"{kind} scaled as netCDF"] = row(kind, pixels=np.rint(IMAGES * 1e3), own=own, refused=["scale_factor"])
LAYOUTS["zarr 2"] = row("zarr", pixels=NJY, about={**GEOMETRY, "unit": "nJy"}, options={"zarr_format": 2})


def as_pasquet(path):
    labels = np.zeros(N, [("z", "f8"), ("EBV", "f8"), ("ObjID", "i8"), ("dered_petro_r", "f4")])
    labels["z"], labels["EBV"], labels["ObjID"] = Z_SPEC, EBV, IDS
    np.savez(path, cube=IMAGES, labels=labels)


LABELS = {"z_spec": Z_SPEC, "ebv": EBV, "object_id": IDS}


def as_npy(pixels, **expected):
    return Layout(lambda path: np.save(path, pixels), file="mine.npy", **expected)


LAYOUTS |= {
    "npz of Pasquet et al.": Layout(as_pasquet, file="mine.npz", columns=LABELS, said={"assumed": "nanomagg"}),
    "npy": as_npy(IMAGES, said={"assumed": "nanomagg"}),
    "npy, bands first": as_npy(PLANES),
    "npy of one cutout": as_npy(IMAGES[0], n=1),
    "npy of one cutout, bands first": as_npy(PLANES[0], n=1),
    "npy of float64 in Fortran order": as_npy(np.asfortranarray(IMAGES.astype("f8"))),
    "npy of 96 pixels": as_npy(padded(96, 96), said={"used": "central"}),
    "npy of a single band": as_npy(IMAGES[..., 2], refused=["shape|axes|band"]),
}
