"""Files in the layout of Pasquet et al. 2019 are mapped, not loaded; compressed ones can be streamed only."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from photoz.errors import InvalidDataset, MalformedInput
from photoz.io.pasquet import is_pasquet, stream_pasquet
from photoz.io.reader import open_cutouts

N = 150
CUBE = np.random.default_rng(0).normal(size=(N, 8, 8, 5)).astype(np.float32)


def labels(**changes) -> np.ndarray:
    fields = {
        "specObjID": np.arange(N) + 299_489_676_975_171_584,
        "objID": np.arange(N) + 1_237_648_720_693_755_918,
        "z": np.linspace(0.01, 0.5, N).astype(np.float32),
        "EBV": np.linspace(0.0, 0.2, N),
        "dered_petro_r": np.linspace(14.0, 18.5, N),
        "subClass": np.array(["STARFORMING"] * N),
        **changes,
    }
    table = np.empty(N, dtype=[(name, values.dtype) for name, values in fields.items()])
    for name, values in fields.items():
        table[name] = values
    return table


@pytest.fixture
def stored(tmp_path):
    np.savez(tmp_path / "sdss.npz", cube=CUBE, labels=labels())
    return tmp_path / "sdss.npz"


@pytest.fixture
def compressed(tmp_path):
    np.savez_compressed(tmp_path / "compressed.npz", cube=CUBE, labels=labels())
    return tmp_path / "compressed.npz"


def test_images_stay_on_disk(stored):
    with open_cutouts(stored) as cutouts:
        assert cutouts.images.shape == CUBE.shape
        assert len(cutouts) == N
        for rows in (
            slice(None),
            slice(3, 9),
            slice(140, 400),
            slice(9, 3),
            slice(None, None, 7),
            slice(80, 5, -3),
            -1,
        ):
            np.testing.assert_array_equal(cutouts.images[rows], CUBE[rows])
        np.testing.assert_array_equal(cutouts.read_images(np.array([149, 0, 3])), CUBE[[149, 0, 3]])
        with pytest.raises(IndexError):
            cutouts.images[N]


def test_what_is_read_is_not_kept(stored):
    with open_cutouts(stored) as cutouts:
        cutouts.images[:]
        assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if str(stored) in line]


def test_fields_are_renamed_columns(stored):
    with open_cutouts(stored) as cutouts:
        assert set(cutouts.columns) == {"specObjID", "object_id", "z_spec", "ebv", "dered_petro_r", "subClass"}
        np.testing.assert_array_equal(cutouts.column("z_spec"), labels()["z"])
        np.testing.assert_array_equal(cutouts.column("ebv"), labels()["EBV"])
        assert cutouts.column("object_id")[1] == "1237648720693755919"
        assert cutouts.provenance == "cutouts in the layout of Pasquet et al. 2019 (sdss.npz)"


def test_case_of_a_field_does_not_matter(tmp_path):
    fields = [(name, float) for name in ("Z", "ebv", "Dered_Petro_R")]
    np.savez(tmp_path / "sdss.npz", cube=CUBE, labels=np.zeros(N, dtype=fields))
    with open_cutouts(tmp_path / "sdss.npz") as cutouts:
        assert list(cutouts.columns) == ["z_spec", "ebv", "dered_petro_r"]


def test_field_with_the_new_name_keeps_it(tmp_path):
    np.savez(tmp_path / "sdss.npz", cube=CUBE, labels=labels(z_spec=np.full(N, 0.3)))
    with open_cutouts(tmp_path / "sdss.npz") as cutouts:
        assert (cutouts.column("z_spec") == 0.3).all()
        np.testing.assert_array_equal(cutouts.column("z"), labels()["z"])


def test_fortran_order_is_mapped_but_not_streamed(tmp_path):
    np.savez(tmp_path / "sdss.npz", cube=np.asfortranarray(CUBE), labels=labels())
    with open_cutouts(tmp_path / "sdss.npz") as cutouts:
        np.testing.assert_array_equal(cutouts.images[9], CUBE[9])
    with pytest.raises(InvalidDataset, match="Fortran order"):
        stream_pasquet(tmp_path / "sdss.npz")


def test_compressed_file_is_refused_with_the_convert_command(compressed):
    message = r"is compressed.*training convert \S+compressed.npz \S+compressed.h5"
    with pytest.raises(InvalidDataset, match=message), open_cutouts(compressed):
        pass


@pytest.mark.parametrize("name", ["stored", "compressed"])
def test_stream_yields_all_cutouts_in_small_blocks(name, request):
    shape, columns, blocks = stream_pasquet(request.getfixturevalue(name))
    parts = list(blocks)
    assert shape == CUBE.shape
    assert max(map(len, parts)) < N
    np.testing.assert_array_equal(np.concatenate(parts), CUBE)
    np.testing.assert_array_equal(columns["z_spec"], labels()["z"])


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"cube": CUBE}, "expected an array 'labels' in addition to the cube"),
        ({"cube": CUBE, "labels": np.ones(N)}, "expected labels with named fields"),
        ({"cube": CUBE, "labels": labels()[:9]}, "expected 150 values of .*got 9"),
        ({"cube": CUBE[0], "labels": labels()}, r"expected a cube \(n, size, size, n_bands\) of floats"),
        ({"cube": CUBE.astype(int), "labels": labels()}, "of floats in .* got .* of int64"),
        ({"cube": CUBE, "labels": np.array([("a",)] * N, dtype=[("z", object)])}, "not a readable array of plain"),
    ],
    ids=["no labels", "plain labels", "few labels", "one cutout", "integers", "objects"],
)
def test_incomplete_file_is_refused(arrays, reason, tmp_path):
    np.savez(tmp_path / "sdss.npz", **arrays)
    with pytest.raises(InvalidDataset, match=reason), open_cutouts(tmp_path / "sdss.npz"):
        pass


def test_damaged_compressed_file_is_refused(compressed):
    content = bytearray(compressed.read_bytes())
    content[20_000:20_100] = bytes(100)
    compressed.write_bytes(content)
    with pytest.raises(InvalidDataset, match="damaged"):
        list(stream_pasquet(compressed)[2])


def test_cube_that_ends_early_is_refused(stored):
    with zipfile.ZipFile(stored) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("cube.npy", members["cube.npy"][:5000])
        archive.writestr("labels.npy", members["labels.npy"])
    with pytest.raises(InvalidDataset, match="ends before its last cutout"), open_cutouts(stored):
        pass
    with pytest.raises(InvalidDataset, match="ends before its last cutout"):
        list(stream_pasquet(stored)[2])


def test_other_archives_are_not_of_this_layout(tmp_path):
    np.savez(tmp_path / "native.npz", images=CUBE, cube=np.ones(3))
    assert not is_pasquet(tmp_path / "native.npz")
    (tmp_path / "text.npz").write_text("z_spec")
    with pytest.raises(MalformedInput), open_cutouts(tmp_path / "text.npz"):
        pass
