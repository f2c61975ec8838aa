"""Cutouts in Parquet files that pyarrow has written."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from photoz.errors import InvalidDataset, UnsupportedType
from photoz.images import ImageSpec
from photoz.io.reader import open_cutouts

SPEC = ImageSpec(size=8, bands="gri", pixel_scale=0.2)
IMAGES = np.random.default_rng(0).normal(size=(7, 8, 8, 3)).astype(np.float32)


def flat(images: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(images.ravel()), images[0].size)


def nested(images: np.ndarray) -> pa.Array:
    values = pa.array(images.ravel())
    for length in reversed(images.shape[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, length)
    return values


LAYOUTS = {"flat": flat, "nested": nested, "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray}


def write(path: Path, images: pa.Array, row_group_size: int = 3, **metadata: object) -> Path:
    columns = {"images": images, "z_spec": np.linspace(0.1, 0.3, 7), "name": list("abcdef") + ["β"]}
    table = pa.table({**columns, "other": [[1], [2, 3]] * 3 + [None]})
    described = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    parquet.write_table(table.replace_schema_metadata(described), path, row_group_size=row_group_size)
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_images_of_each_layout(tmp_path: Path, layout, dtype: type) -> None:
    images = (100 * IMAGES).astype(dtype)
    with open_cutouts(write(tmp_path / "mine.parquet", layout(images), image_spec=asdict(SPEC))) as cutouts:
        assert cutouts.images.shape == (7, 8, 8, 3)
        assert cutouts.spec == SPEC
        for rows in (slice(None), slice(2, 5), slice(6, 7), slice(5, 2), slice(None, None, 3)):
            np.testing.assert_array_equal(cutouts.images[rows], images[rows])
        np.testing.assert_array_equal(cutouts.images[4], images[4])
        assert cutouts.images[:].dtype == dtype
        assert list(cutouts.columns) == ["z_spec", "name"]
        assert cutouts.column("name").tolist() == list("abcdef") + ["β"]
        np.testing.assert_allclose(cutouts.column("z_spec"), np.linspace(0.1, 0.3, 7))


def test_bands_in_the_metadata(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.parquet", nested(IMAGES), bands="gri", unit="nJy", pixel_scale=0.2)
    with open_cutouts(path) as cutouts:
        assert (cutouts.bands, cutouts.unit, cutouts.pixel_scale, cutouts.spec) == (("g", "r", "i"), "nJy", 0.2, None)


def with_missing(images: np.ndarray) -> pa.Array:
    return pa.concat_arrays([flat(images[:6]), pa.nulls(1, pa.list_(pa.float32(), images[0].size))])


BROKEN = {
    "no images": (lambda path: parquet.write_table(pa.table({"z": [0.1]}), path), "has no column 'images'; it has z"),
    "no shape": (lambda path: write(path, flat(IMAGES)), "expected fixed-size lists of numbers .* got 192 of float"),
    "no numbers": (lambda path: write(path, pa.array(list("abcdefg"))), "got no list of string"),
    "variable lists": (lambda path: write(path, pa.array([[1.0]] * 7)), r"got no list of list<element: double>"),
    "not Parquet": (lambda path: path.write_bytes(b"PAR1" * 10), "mine.parquet cannot be read as Parquet"),
    "empty": (lambda path: path.write_bytes(b""), "mine.parquet cannot be read as Parquet"),
    "bad description": (lambda path: write(path, nested(IMAGES), image_spec="{"), "describes its images in a way"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN)
def test_unusable_file_is_refused_with_its_name(tmp_path: Path, spoil, message: str) -> None:
    path = tmp_path / "mine.parquet"
    spoil(path)
    with pytest.raises(InvalidDataset, match=message) as caught, open_cutouts(path):
        pass
    assert "mine.parquet" in str(caught.value)


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
def test_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "mine.parquet", nested(IMAGES))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InvalidDataset, match="mine.parquet"), open_cutouts(path):
        pass


def test_damaged_pages_are_refused_when_they_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.parquet", nested(IMAGES))
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    with pytest.raises(InvalidDataset, match="mine.parquet"), open_cutouts(path) as cutouts:
        cutouts.images[:]


def test_cutouts_without_pixels_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.parquet", with_missing(IMAGES), image_spec=asdict(SPEC))
    with open_cutouts(path) as cutouts:
        np.testing.assert_array_equal(cutouts.images[:5], IMAGES[:5])
        with pytest.raises(InvalidDataset, match=r"mine.parquet has cutouts without pixels"):
            cutouts.images[:]


def test_large_row_groups_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "mine.parquet", nested(IMAGES))
    monkeypatch.setattr("photoz.io.parquet.MAX_GROUP_BYTES", 3 * 768 - 1)
    with (
        pytest.raises(InvalidDataset, match=r"the images of 3 cutouts, more than .* row_group_size"),
        open_cutouts(path),
    ):
        pass


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "mine.parquet", nested(IMAGES))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnsupportedType, match=r"pip install 'photoz\[parquet\]'"), open_cutouts(path):
        pass
