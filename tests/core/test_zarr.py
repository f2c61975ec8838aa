"""Cutouts in Zarr folders that zarr itself has written."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from photoz.errors import InvalidDataset, UnsupportedType
from photoz.images import ImageSpec
from photoz.io.layout import conform
from photoz.io.reader import open_cutouts

SPEC = ImageSpec(size=8, bands="gri", pixel_scale=0.2)
IMAGES = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)


pytestmark = pytest.mark.filterwarnings("ignore:The data type")  # text of a fixed length is no standard of Zarr yet


def write(path: Path, version: int = 3, **attributes: object) -> Path:
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    group.create_array("images", data=IMAGES, chunks=(2, 8, 8, 3))
    group.create_array("z_spec", data=np.linspace(0.1, 0.3, 5))
    group.create_array("object_id", data=np.array(["a", "b", "c", "d", "β"]).astype("<U2"))
    group.attrs.update(attributes)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_group_of_images_and_columns(tmp_path: Path, version: int) -> None:
    attributes = {"bands": ["g", "r", "i"], "unit": "nJy", "pixel_scale": 0.2, "provenance": "made up"}
    with open_cutouts(write(tmp_path / "mine.zarr", version, **attributes)) as cutouts:
        assert (len(cutouts), cutouts.bands, cutouts.unit, cutouts.pixel_scale) == (5, ("g", "r", "i"), "nJy", 0.2)
        assert cutouts.provenance == "made up"
        np.testing.assert_array_equal(cutouts.images[:], IMAGES)
        np.testing.assert_array_equal(cutouts.images[3], IMAGES[3])
        np.testing.assert_array_equal(cutouts.read_images(np.array([4, 1])), IMAGES[[4, 1]])
        assert cutouts.column("object_id").tolist() == ["a", "b", "c", "d", "β"]
        np.testing.assert_allclose(cutouts.column("z_spec"), np.linspace(0.1, 0.3, 5))
        conformed, said = conform(cutouts, SPEC)
        np.testing.assert_allclose(conformed.images[1:3], IMAGES[1:3] * 1e-3 / 3.631, rtol=1e-6)
        assert said == ("pixels are multiplied by 0.000275406, for the unit nJy",)


def test_described_group_and_plain_array(tmp_path: Path) -> None:
    fields = {"size": 8, "bands": ["g", "r", "i"], "pixel_scale": 0.2}
    with open_cutouts(write(tmp_path / "mine.zarr", image_spec=fields)) as cutouts:
        assert cutouts.spec == SPEC
    zarr.save_array(str(tmp_path / "plain.zarr"), IMAGES)
    with open_cutouts(tmp_path / "plain.zarr") as cutouts:
        np.testing.assert_array_equal(cutouts.images[:], IMAGES)
        assert not cutouts.columns


def edit(path: Path, **changes: object) -> None:
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, **changes}))


BROKEN = {
    "no images": (lambda path: shutil.rmtree(path / "images"), "holds no array 'images'; it has"),
    "no folder": (shutil.rmtree, "mine.zarr is not a readable Zarr folder"),
    "a file": (lambda path: (shutil.rmtree(path), path.write_bytes(b"PK")), "mine.zarr is not a readable Zarr folder"),
    "no metadata": (lambda path: (path / "zarr.json").unlink(), "mine.zarr is not a readable Zarr folder"),
    "bad metadata": (lambda path: (path / "zarr.json").write_text("{"), "mine.zarr is not a readable Zarr folder"),
    "a chunk is missing": (lambda path: shutil.rmtree(path / "images" / "c" / "1"), "has 2 of the 3 chunks"),
    "lying length": (
        lambda path: edit(path / "images" / "zarr.json", shape=[10**12, 8, 8, 3]),
        "has 3 of the 500,000,",
    ),
    "huge chunks": (
        lambda path: edit(
            path / "images" / "zarr.json",
            chunk_grid={"name": "regular", "configuration": {"chunk_shape": [10**6, 8, 8, 3]}},
        ),
        "a chunk of the images in .* has 768,000,000 bytes, expected at most 536,870,912",
    ),
    "lying column": (
        lambda path: edit(path / "z_spec" / "zarr.json", shape=[10**12]),
        "expected 5 values of '/z_spec'",
    ),
    "bad description": (lambda path: edit(path / "zarr.json", attributes={"image_spec": "["}), "describes its images"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN)
def test_unusable_folder_is_refused_with_its_name(tmp_path: Path, spoil, message: str) -> None:
    path = write(tmp_path / "mine.zarr")
    spoil(path)
    with pytest.raises(InvalidDataset, match=message) as caught, open_cutouts(path):
        pass
    assert "mine.zarr" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, np.random.default_rng(1).bytes(3000)])
def test_damaged_chunk_is_refused_when_it_is_read(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "mine.zarr")
    (path / "images" / "c" / "1" / "0" / "0" / "0").write_bytes(content)
    with open_cutouts(path) as cutouts:
        np.testing.assert_array_equal(cutouts.images[:2], IMAGES[:2])
        with pytest.raises(InvalidDataset, match=r"mine.zarr cannot be read"):
            cutouts.images[:]


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "mine.zarr")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UnsupportedType, match=r"pip install 'photoz\[zarr\]'"), open_cutouts(path):
        pass
