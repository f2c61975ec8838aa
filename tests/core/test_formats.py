"""Cutouts in HDF5, Zarr and Parquet files, written with h5py, zarr and pyarrow."""

import json
import os
import re
import shutil
import stat
from contextlib import nullcontext, suppress
from dataclasses import asdict

import h5py
import numpy as np
import pyarrow as pa
import pytest
import zarr
from pyarrow import parquet

from photoz.errors import InvalidDataset
from photoz.io.hdf5 import create_hdf5, write_columns
from photoz.io.layout import conform
from photoz.io.parquet import MAX_GROUP_BYTES
from photoz.io.reader import open_cutouts
from photoz.io.zarr import MAX_CHUNK_BYTES
from tests.core.cutout_files import COLUMNS, IMAGES, SPEC, check_columns, check_images, refusal

pytestmark = pytest.mark.filterwarnings("ignore:The data type")  # text of a fixed length is no standard of Zarr yet

SEVEN = np.random.default_rng(0).normal(size=(7, 8, 8, 3)).astype(np.float32)


def test_hdf5_round_trip_of_a_file_that_appears_when_it_is_complete(tmp_path):
    native = tmp_path / "deep" / "cutouts.h5"
    with create_hdf5(native, 4, SPEC, provenance="made up") as file:
        file["images"][:] = IMAGES
        write_columns(file, COLUMNS)
    with open_cutouts(native) as cutouts:
        assert (len(cutouts), cutouts.spec, cutouts.provenance) == (4, SPEC, "made up")
        assert isinstance(cutouts.images, h5py.Dataset)
        assert (cutouts.images.chunks, cutouts.images.dtype) == ((1, 8, 8, 3), np.float32)
        np.testing.assert_array_equal(cutouts.images[:], IMAGES)
        check_columns(cutouts)
        assert cutouts.rows("train").tolist() == [0, 2]
        with pytest.raises(InvalidDataset, match="^expected a column 'ra'; there are ebv, .*, z_spec$"):
            cutouts.column("ra")
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["images"], file["ebv"] = IMAGES, 0.1
        file.create_group("notes")
        file.attrs["bands"] = np.array([b"g", b"r", b"i"])
    with open_cutouts(tmp_path / "odd.h5") as cutouts:
        assert (dict(cutouts.columns), cutouts.provenance, cutouts.bands) == ({"ebv": 0.1}, "", ("g", "r", "i"))
    before, mask = native.read_bytes(), os.umask(0o022)
    try:
        with suppress(KeyboardInterrupt), create_hdf5(native, 4, SPEC) as file:
            file["images"][:2] = IMAGES[:2]
            raise KeyboardInterrupt
        assert [path.read_bytes() for path in native.parent.iterdir()] == [before]
        with create_hdf5(native, 1, SPEC):
            pass
    finally:
        os.umask(mask)
    with open_cutouts(native) as cutouts:
        assert len(cutouts) == 1
    assert stat.S_IMODE(native.stat().st_mode) == 0o644


def write_zarr(path, version=3, **attributes):
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    group.create_array("images", data=IMAGES, chunks=(2, 8, 8, 3))
    group.create_array("z_spec", data=np.linspace(0.1, 0.3, 4))
    group.create_array("object_id", data=np.array(["a", "b", "c", "β"]).astype("<U2"))
    group.attrs.update(attributes)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_group_of_images_and_columns(tmp_path, version):
    path, attributes = tmp_path / "mine.zarr", {"bands": ["g", "r", "i"], "unit": "nJy", "pixel_scale": 0.2}
    write_zarr(path, version, provenance="made up", **attributes)
    with open_cutouts(path) as cutouts:
        assert (len(cutouts), cutouts.bands, cutouts.unit, cutouts.pixel_scale) == (4, ("g", "r", "i"), "nJy", 0.2)
        assert (cutouts.spec, cutouts.provenance) == (None, "made up")
        check_images(cutouts.images, IMAGES)
        np.testing.assert_array_equal(cutouts.read_images(np.array([3, 1])), IMAGES[[3, 1]])
        assert cutouts.column("object_id").tolist() == ["a", "b", "c", "β"]
        np.testing.assert_array_equal(cutouts.column("z_spec"), np.linspace(0.1, 0.3, 4))
        conformed, reading = conform(cutouts, SPEC)
        np.testing.assert_allclose(conformed.images[1:3], IMAGES[1:3] * 1e-3 / 3.631, rtol=1e-6)
        assert reading.used[0] == "pixels are multiplied by 0.000275406, for the unit nJy"


def test_described_zarr_group_plain_array_and_largest_chunk(tmp_path, monkeypatch):
    write_zarr(tmp_path / "mine.zarr", image_spec={"size": 8, "bands": ["g", "r", "i"], "pixel_scale": 0.2})
    with open_cutouts(tmp_path / "mine.zarr") as cutouts:
        assert cutouts.spec == SPEC
    assert MAX_CHUNK_BYTES == 536_870_912
    monkeypatch.setattr("photoz.io.zarr.MAX_CHUNK_BYTES", 3 * 768)
    for rows in (3, 4):
        zarr.create_array(str(tmp_path / f"{rows}.zarr"), data=IMAGES, chunks=(rows, 8, 8, 3))
    with open_cutouts(tmp_path / "3.zarr") as cutouts:
        check_images(cutouts.images, IMAGES)
        assert (dict(cutouts.columns), cutouts.provenance) == ({}, "3.zarr")
    expected = f"a chunk of the images in {tmp_path}/4.zarr has 3,072 bytes, expected at most 2,304"
    assert refusal(tmp_path / "4.zarr") == expected


def flat(images):
    return pa.FixedSizeListArray.from_arrays(pa.array(images.ravel()), images[0].size)


def nested(images):
    values = pa.array(images.ravel())
    for length in reversed(images.shape[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, length)
    return values


def write_parquet(path, images, name="images", **metadata):
    columns = {name: images, "z_spec": [0.1, None, 0.3, 0.4, 0.5, 0.6, 0.7], "name": [*"abcde", None, "β"]}
    table = pa.table({**columns, "good": [True] * 7, "other": [[1], [2, 3]] * 3 + [None]})
    described = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    parquet.write_table(table.replace_schema_metadata(described), path, row_group_size=3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize("layout", [flat, nested, pa.FixedShapeTensorArray.from_numpy_ndarray])
def test_parquet_images_of_each_layout(tmp_path, layout, dtype):
    images = (100 * SEVEN).astype(dtype)
    write_parquet(tmp_path / "mine.parquet", layout(images), image_spec=asdict(SPEC))
    with open_cutouts(tmp_path / "mine.parquet") as cutouts:
        assert (cutouts.spec, cutouts.provenance) == (SPEC, "mine.parquet")
        check_images(cutouts.images, images)
        assert cutouts.images[:].dtype == dtype
        columns = {name: values.tolist() for name, values in cutouts.columns.items()}
        np.testing.assert_array_equal(columns.pop("z_spec"), [0.1, np.nan, 0.3, 0.4, 0.5, 0.6, 0.7])
        assert columns == {"name": [*"abcde", "", "β"], "good": [True] * 7}


def test_parquet_bands_in_the_metadata_and_large_row_groups(tmp_path, monkeypatch):
    path = tmp_path / "mine.parquet"
    write_parquet(path, nested(SEVEN), "image", bands="gri", unit="nJy", pixel_scale=0.2)
    assert MAX_GROUP_BYTES == 2_147_483_648
    monkeypatch.setattr("photoz.io.parquet.MAX_GROUP_BYTES", 3 * 768)
    with open_cutouts(path) as cutouts:
        assert (cutouts.bands, cutouts.unit, cutouts.pixel_scale) == (("g", "r", "i"), "nJy", 0.2)
        assert (cutouts.spec, len(cutouts)) == (None, 7)
    monkeypatch.setattr("photoz.io.parquet.MAX_GROUP_BYTES", 3 * 768 - 1)
    expected = "has the images of 3 cutouts, more than 2,303 bytes: write it with row_group_size=1000"
    assert refusal(path) == f"a row group of {path} {expected}"


def edit(name, **changes):
    def change(path):
        fields = json.loads((path / name).read_text())
        (path / name).write_text(json.dumps({**fields, **changes}))

    return change


def described(file, spec='{"size": 3}'):
    file["images"], file.attrs["image_spec"] = IMAGES, spec


def linked(file):
    file["images"], file["ebv"] = IMAGES, h5py.ExternalLink("other.h5", "ebv")


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "ebv", (4,))
    file.create_virtual_dataset("ebv", layout)


def damaged(path):
    write_parquet(path, nested(SEVEN))
    path.write_bytes(b"PAR1" + bytes(196) + path.read_bytes()[200:])


IN_OTHERS = r"^'ebv' in .*mine\.h5 has its values in other files; expected everything in one$"
MISSING = pa.array([*(image.ravel() for image in SEVEN[:5]), None, SEVEN[6].ravel()], flat(SEVEN).type)
SIZE_9 = asdict(SPEC) | {"size": 9}
UNREADABLE = r"mine\.zarr is not a readable Zarr folder"
AXES = r"^expected fixed-size lists of numbers with three axes as images in .*mine\.parquet .*, got "
BROKEN = [
    (
        "h5",
        lambda file: file.create_dataset("cube", data=IMAGES),
        r"mine\.h5 holds no 'images': name the images by --column; it holds cube$",
    ),
    ("h5", lambda file: file.create_group("images"), "holds no 'images': .* it holds images/$"),
    ("h5", lambda file: write_columns(file, {"images": IMAGES, "z": np.ones(3)}), "expected 4 values of 'z', one for"),
    ("h5", described, r"mine\.h5 describes its images in a way that cannot be read: "),
    ("h5", lambda file: described(file, "[1]"), r"cannot be read: expected a mapping, got \[1\]$"),
    ("h5", linked, r"^'ebv' in .*mine\.h5 is a link, perhaps to other files; expected everything in one$"),
    ("h5", virtual, IN_OTHERS),
    ("h5", lambda file: file.create_dataset("ebv", (4,), "f4", external=[("raw", 0, 16)]), IN_OTHERS),
    ("hdf5", lambda path: path.write_text("z_spec"), r"mine\.hdf5 is not an HDF5 file: "),
    (
        "zarr",
        lambda path: shutil.rmtree(path / "images"),
        "it holds (object_id|z_spec), ",
    ),
    ("zarr", shutil.rmtree, UNREADABLE),
    ("zarr", lambda path: (shutil.rmtree(path), path.write_bytes(b"PK")), UNREADABLE),
    ("zarr", lambda path: (path / "zarr.json").write_text("{"), UNREADABLE),
    ("zarr", lambda path: shutil.rmtree(path / "images/c/1"), "has 1 of the 2 chunks of its images"),
    ("zarr", edit("images/zarr.json", shape=[10**12, 8, 8, 3]), "has 2 of the 500,000,000,000 chunks"),
    ("zarr", edit("z_spec/zarr.json", shape=[10**12]), "^expected 4 values of '/z_spec' in .*mine.zarr, got the"),
    ("zarr", edit("zarr.json", attributes={"image_spec": "["}), "mine.zarr describes its images in a way"),
    (
        "zarr",
        lambda path: (shutil.rmtree(path), zarr.save_array(str(path), IMAGES[0])),
        r"^expected images of four axes in .*mine\.zarr, got the shape \(8, 8, 3\)$",
    ),
    ("zarr", lambda path: (path / "images/c/1/0/0/0").write_bytes(bytes(100)), "mine.zarr cannot be read: "),
    (
        "parquet",
        lambda path: parquet.write_table(pa.table({"z": [0.1]}), path),
        "no 'images' or 'image': .* it holds z$",
    ),
    ("parquet", lambda path: write_parquet(path, flat(SEVEN)), f"{AXES}192 of float$"),
    ("parquet", lambda path: write_parquet(path, flat(SEVEN), image_spec=SIZE_9), f"{AXES}192 of float$"),
    ("parquet", lambda path: write_parquet(path, pa.array(np.ones(7))), f"{AXES}no list of double$"),
    ("parquet", lambda path: write_parquet(path, nested(SEVEN), image_spec="{"), "describes its images in a way"),
    ("parquet", lambda path: write_parquet(path, MISSING, image_spec=asdict(SPEC)), "has cutouts without pixels$"),
    ("parquet", lambda path: path.write_bytes(b""), "mine.parquet cannot be read as Parquet: "),
    ("parquet", damaged, "mine.parquet cannot be read as Parquet: "),
]


@pytest.mark.parametrize(("suffix", "spoil", "message"), BROKEN)
def test_unusable_file_is_refused_with_its_name(tmp_path, suffix, spoil, message):
    path = tmp_path / f"mine.{suffix}"
    if suffix == "zarr":
        write_zarr(path)
    with h5py.File(path, "w") if suffix == "h5" else nullcontext(path) as given:
        spoil(given)
    assert re.search(message, refusal(path))


def test_a_column_has_one_unit_in_all_files_of_a_folder(tmp_path):
    for name, unit in (("a.h5", "deg"), ("b.h5", "rad")):
        with h5py.File(tmp_path / name, "w") as file:
            file["images"], file["ra"] = IMAGES, np.full(len(IMAGES), 0.5)
            file["ra"].attrs["unit"] = unit
    words = r"^expected the column ra in one unit, got deg in .*/a\.h5, and rad in b\.h5$"
    assert re.search(words, refusal(tmp_path, InvalidDataset))
