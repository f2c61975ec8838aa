"""Malicious dataset files on disk: references to other files, bombs, damage."""

import zipfile
from contextlib import suppress
from functools import partial

import h5py
import numpy as np
import pytest

from photoz.errors import InvalidDataset, PhotozError
from photoz.io.reader import open_cutouts
from tests.attack.corpus import IMAGES, MB
from tests.attack.files import make_npz, npy_bytes, npy_with_header
from tests.attack.refusals import assert_refused


def read(path):
    with open_cutouts(path) as cutouts:
        return cutouts.images.shape, sorted(cutouts.columns)


assert_dataset_refused = partial(assert_refused, read, error=InvalidDataset)


@pytest.fixture
def write(tmp_path):
    """Write an HDF5 file of images, or links in their place, and of columns; return its path."""

    def write(**columns):
        path, elsewhere = tmp_path / "cutouts.h5", h5py.ExternalLink("other.h5", "/")
        with h5py.File(path, "w") as file:
            for name, values in ({"images": IMAGES} | columns | {"notes/elsewhere": elsewhere}).items():
                file[name] = values
        return path

    return write


def test_hdf5_links_to_other_files_are_refused(write, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["images"], other["z_spec"] = IMAGES, np.ones(len(IMAGES))
    for name in ("images", "z_spec"):
        for link in (h5py.ExternalLink("other.h5", name), h5py.SoftLink(f"/notes/elsewhere/{name}")):
            path = write(**{name: link})
            with h5py.File(path) as file:
                assert len(file[name]) == 2  # HDF5 follows it
            assert_dataset_refused(path, "is a link, perhaps to other files")


def test_large_or_deep_descriptions_are_refused(write):
    path = write()
    with h5py.File(path, "a") as file:
        file.create_dataset("z_spec", (2**28,), "f8", chunks=(2**16,))  # takes no space on disk
    assert_dataset_refused(path, "expected 2 values of 'z_spec'", max_memory=MB)
    with h5py.File(path, "a") as file:
        file.attrs["image_spec"] = "[" * 50_000
        del file["z_spec"]
    assert_dataset_refused(path, "describes its images")


LABELS = np.zeros(2, [("z", "<f8"), ("EBV", "<f4")])
NO_SIZE = npy_with_header(b"{'descr': [], 'fortran_order': False, 'shape': (9,)}")
HUGE = npy_with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2**40, 8, 8, 2)}")


def test_a_malformed_pasquet_file_is_refused(tmp_path):
    path, large = tmp_path / "cube.npz", npy_bytes(np.zeros(50 * MB, np.uint8))
    whole = {"cube.npy": npy_bytes(IMAGES), "labels.npy": npy_bytes(LABELS)}
    for members in ({"labels.npy": large}, {"labels.npy": NO_SIZE}, {"cube.npy": b""}, {"cube.npy": HUGE}):
        path.write_bytes(make_npz(whole | members))
        assert_dataset_refused(path, None)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cube.npy", whole["cube.npy"])
        archive.writestr("labels.npy", large, zipfile.ZIP_BZIP2)
    assert_dataset_refused(path, "stored or deflated", max_memory=MB)


def test_a_damaged_hdf5_file_is_read_or_refused(write):
    path = write(z_spec=np.ones(2))
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(len(content), size=4)] = rng.integers(256, size=4)
        path.write_bytes(content.tobytes())
        with suppress(PhotozError):
            read(path)
