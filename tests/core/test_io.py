import io
import os
import stat

import h5py
import numpy as np
import pytest

from photoz.errors import InvalidDataset, MalformedInput, UnsupportedType, reason
from photoz.images import ImageSpec
from photoz.io import npz
from photoz.io.hdf5 import create_hdf5, write_columns
from photoz.io.reader import open_cutouts

SPEC = ImageSpec(size=8, bands="gri", pixel_scale=0.2, unit="count")
IMAGES = np.arange(4 * 8 * 8 * 3, dtype=np.float32).reshape(4, 8, 8, 3)
COLUMNS = {
    "object_id": np.array(["NGC 224", "β Pic", "", "1237648720693755918"]),
    "z_spec": np.array([0.1, 0.2, 0.3, np.nan]),
    "ebv": np.array([0.01, 0.02, 0.03, 0.04], dtype=np.float32),
    "magnitudes": np.ones((4, 3)),
    "split": np.array(["train", "test", "train", "validation"]),
}


@pytest.fixture
def native(tmp_path):
    path = tmp_path / "deep" / "cutouts.h5"
    with create_hdf5(path, 4, SPEC, provenance="made up") as file:
        file["images"][:] = IMAGES
        write_columns(file, COLUMNS)
    return path


def read_npy(content):
    return npz.read_array(io.BytesIO(content), len(content))


def npy_bytes(array, allow_pickle=False):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def test_hdf5_round_trip(native):
    with open_cutouts(native) as cutouts:
        assert len(cutouts) == 4
        assert cutouts.spec == SPEC
        assert cutouts.provenance == "made up"
        assert isinstance(cutouts.images, h5py.Dataset)
        assert cutouts.images.chunks == (1, 8, 8, 3)
        np.testing.assert_array_equal(cutouts.images[:], IMAGES)
        assert cutouts.columns.keys() == COLUMNS.keys()
        for name, values in COLUMNS.items():
            np.testing.assert_array_equal(cutouts.column(name), values)
        assert cutouts.rows("train").tolist() == [0, 2]


def test_reason_is_that_of_the_system_or_names_the_user_without_permission():
    assert reason(PermissionError(13, "denied")) == f"permission denied to user {os.geteuid()}"
    assert reason(OSError(5, "broken")) == "broken"
    assert reason(ValueError("odd")) == "odd"


def test_npz_round_trip(tmp_path):
    path = tmp_path / "cutouts.npz"
    path.write_bytes(npz.npz_bytes({"images": IMAGES, **COLUMNS, "ebv": 0.1}))
    with open_cutouts(path) as cutouts:
        np.testing.assert_array_equal(cutouts.images, IMAGES)
        np.testing.assert_array_equal(cutouts.column("object_id"), COLUMNS["object_id"])
        assert cutouts.column("ebv") == 0.1
        assert cutouts.spec is None


def test_npy_images_stay_on_disk(tmp_path):
    np.save(tmp_path / "cutouts.npy", IMAGES)
    with open_cutouts(tmp_path / "cutouts.npy") as cutouts:
        assert isinstance(cutouts.images, np.memmap)
        np.testing.assert_array_equal(cutouts.images[2], IMAGES[2])
        assert len(cutouts) == 4
        assert not cutouts.columns


def test_missing_column_error_lists_the_others(native):
    with open_cutouts(native) as cutouts, pytest.raises(InvalidDataset, match="'ra'.*object_id"):
        cutouts.column("ra")


class Bomb:
    """Ends the test run if it is ever unpickled."""

    def __reduce__(self):
        return os._exit, (66,)


def test_pickled_objects_are_refused_and_never_executed(tmp_path):
    pickled = np.array([Bomb()], dtype=object)
    (tmp_path / "bomb.npy").write_bytes(npy_bytes(pickled, allow_pickle=True))
    np.savez(tmp_path / "bomb.npz", images=pickled)
    for name in ("bomb.npy", "bomb.npz"):
        with pytest.raises(MalformedInput), open_cutouts(tmp_path / name):
            pass
    with pytest.raises(MalformedInput):
        read_npy((tmp_path / "bomb.npy").read_bytes())


def header(text):
    """Bytes of a `.npy` file with this header and no data."""
    return b"\x93NUMPY\x01\x00\x76\x00" + text.encode("latin1").ljust(117) + b"\n"


BROKEN = {
    "empty": b"",
    "text": b"object_id,z_spec\n1,0.1\n",
    "truncated": npy_bytes(IMAGES)[:-4],
    "npz in place of npy": npz.npz_bytes({"images": IMAGES}),
    "petabytes": header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 64, 64, 5), }"),
    "negative": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 64), }"),
    "no type": header("{'descr': '<f9', 'fortran_order': False, 'shape': (1,), }"),
    "open bracket": header("(" * 60),
    "warnings": header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1or " * 12 + "1,), }"),
    "program": header("__import__('os')._exit(66)"),
    "future version": b"\x93NUMPY\x09\x00",
}


def test_sizes_of_npy_files_are_checked():
    assert read_npy(npy_bytes(np.zeros((0, 3)))).shape == (0, 3)
    with pytest.raises(MalformedInput, match=r"expected 3,072 bytes for shape \(4, 8, 8, 3\), got 3,068"):
        read_npy(BROKEN["truncated"])
    with pytest.raises(MalformedInput, match="expected 3,072 bytes, got 3,068"):
        npz.read_array(io.BytesIO(BROKEN["truncated"]), len(npy_bytes(IMAGES)))
    with pytest.raises(MalformedInput, match=r"expected 3,072 bytes for shape \(4, 8, 8, 3\), got 3,073"):
        read_npy(npy_bytes(IMAGES) + b"x")
    with pytest.warns(UserWarning, match="Python 2"):
        assert read_npy(header("{'shape': (2L, 1L), 'fortran_order': False, 'descr': '<f4'}") + bytes(8)).shape == (
            2,
            1,
        )
    large = np.arange(2**17, dtype=np.float64)  # read in several parts
    np.testing.assert_array_equal(read_npy(npy_bytes(large)), large)


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_npy_file_is_malformed(content, tmp_path):
    with pytest.raises(MalformedInput, match=r"\.npy"):
        read_npy(content)
    path = tmp_path / "broken.npy"
    path.write_bytes(content)
    with pytest.raises(MalformedInput, match=r"\.npy"), open_cutouts(path):
        pass


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 rubbish", npy_bytes(IMAGES)], ids=["empty", "rubbish", "npy"])
def test_broken_npz_file_is_malformed(content, tmp_path):
    with pytest.raises(MalformedInput, match=r"\.npz"):
        npz.read_npz(io.BytesIO(content))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"cube": IMAGES}, "expected an array 'images'.*it holds cube"),
        ({"images": IMAGES, "ebv": np.ones(3)}, "expected 4 values of 'ebv'.*got 3"),
        ({"images": np.float32(1.0), "ebv": np.ones(3)}, r"expected images of shape \(n, size, size, n_bands\)"),
    ],
)
def test_incomplete_npz_file_is_refused(arrays, reason):
    with pytest.raises(InvalidDataset, match=reason):
        npz.read_npz(io.BytesIO(npz.npz_bytes(arrays)))


def refused(path, fill):
    with h5py.File(path, "w") as file:
        fill(file)
    with pytest.raises(InvalidDataset) as refusal, open_cutouts(path):
        pass
    return str(refusal.value)


def test_incomplete_hdf5_file_is_refused(tmp_path):
    path = tmp_path / "odd.h5"
    path.write_text("z_spec")
    with pytest.raises(InvalidDataset, match="not an HDF5 file"), open_cutouts(path):
        pass
    assert "no dataset 'images'" in refused(path, lambda file: file.create_dataset("cube", data=IMAGES))
    assert "no dataset 'images'" in refused(path, lambda file: file.create_group("images"))

    def short(file):
        file["images"], file["z_spec"] = IMAGES, np.ones(3)

    assert "expected 4 values of 'z_spec'" in refused(path, short)

    def odd(file):
        file["images"] = IMAGES
        file.attrs["image_spec"] = '{"size": 3}'

    assert "describes its images" in refused(path, odd)

    def virtual(file):
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "ebv", (4,))
        file.create_virtual_dataset("ebv", layout)

    assert "values in other files" in refused(path, virtual)
    external = {"external": [(tmp_path / "raw", 0, 16)]}
    assert "values in other files" in refused(path, lambda file: file.create_dataset("ebv", (4,), "f4", **external))


def test_hdf5_groups_are_ignored_and_scalars_read(tmp_path):
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["images"], file["ebv"] = IMAGES, 0.1
        file.create_group("notes")
    with open_cutouts(tmp_path / "odd.h5") as cutouts:
        assert list(cutouts.columns) == ["ebv"]
        assert cutouts.column("ebv") == 0.1


@pytest.mark.parametrize("name", ["cutouts.txt", "cutouts"])
def test_unknown_suffix_is_refused(name, tmp_path):
    with pytest.raises(UnsupportedType, match=r"\.h5, .* or \.parquet"), open_cutouts(tmp_path / name):
        pass


@pytest.mark.parametrize("suffix", [".h5", ".npy", ".npz"])
def test_missing_file_is_not_found(suffix, tmp_path):
    with pytest.raises(FileNotFoundError), open_cutouts(tmp_path / f"none{suffix}"):
        pass


@pytest.mark.parametrize("exists", [False, True])
def test_crash_while_writing_keeps_the_old_file_and_no_other(native, exists):
    before = native.read_bytes()
    if not exists:
        native.unlink()

    def fail_half_way():
        with create_hdf5(native, 4, SPEC) as file:
            file["images"][:2] = IMAGES[:2]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert [path.read_bytes() for path in native.parent.iterdir()] == ([before] if exists else [])


def test_new_file_replaces_the_old_one_and_is_readable(native):
    mask = os.umask(0o022)
    try:
        with create_hdf5(native, 1, SPEC):
            pass
    finally:
        os.umask(mask)
    with open_cutouts(native) as cutouts:
        assert len(cutouts) == 1
    assert stat.S_IMODE(native.stat().st_mode) == 0o644
