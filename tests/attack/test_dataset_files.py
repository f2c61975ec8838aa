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
def hdf5(tmp_path):
    """An HDF5 file with images, and its path."""
    path = tmp_path / "cutouts.h5"
    with h5py.File(path, "w") as file:
        file["images"] = IMAGES
        yield file, path


def external_link(file, name, other):
    file[name] = h5py.ExternalLink(other, f"/{name}")


def soft_link_to_external_link(file, name, other):
    file["notes/elsewhere"] = h5py.ExternalLink(other, "/")
    file[name] = h5py.SoftLink(f"/notes/elsewhere/{name}")


def external_storage(file, name, other):
    file.create_dataset(name, (2, 8), "u1", external=[(other, 0, 16)])


def virtual_dataset(file, name, other):
    layout = h5py.VirtualLayout((2,), "f8")
    layout[:] = h5py.VirtualSource(other, "z_spec", (2,))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("name", ["images", "z_spec"])
@pytest.mark.parametrize("refer", [external_link, soft_link_to_external_link, external_storage, virtual_dataset])
def test_hdf5_references_to_other_files_are_refused(refer, name, hdf5, tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["images"], file["z_spec"] = IMAGES, np.ones(len(IMAGES))
    file, path = hdf5
    if name in file:
        del file[name]
    refer(file, name, str(other))
    file.close()
    assert_dataset_refused(path, "other files")


def test_a_long_hdf5_column_is_refused_before_it_is_read(hdf5):
    file, path = hdf5
    file.create_dataset("z_spec", (2**28,), "f8", chunks=(2**16,))  # takes no space on disk
    file.close()
    assert_dataset_refused(path, "expected 2 values of 'z_spec'", max_memory=MB)


def test_a_deep_hdf5_description_is_refused(hdf5):
    file, path = hdf5
    file.attrs["image_spec"] = "[" * 50_000
    file.close()
    assert_dataset_refused(path, "describes its images")


LABELS = np.zeros(2, [("z", "<f8"), ("EBV", "<f4")])
PASQUET = {
    "long labels": {"labels.npy": npy_bytes(np.zeros(50 * MB, np.uint8))},
    "labels without a size": {"labels.npy": npy_with_header(b"{'descr': [], 'fortran_order': False, 'shape': (9,)}")},
    "truncated cube": {"labels.npy": npy_bytes(LABELS), "cube.npy": npy_bytes(IMAGES)[:-200_000]},
    "cube of terabytes": {
        "cube.npy": npy_with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2**40, 8, 8, 2)}"),
    },
}


@pytest.mark.parametrize("members", PASQUET.values(), ids=PASQUET)
def test_a_malformed_pasquet_file_is_refused(members, tmp_path):
    path = tmp_path / "cube.npz"
    path.write_bytes(make_npz({"cube.npy": npy_bytes(IMAGES), "labels.npy": npy_bytes(LABELS)} | members))
    assert_dataset_refused(path, None)


def test_pasquet_labels_are_not_unpacked_with_bzip2(tmp_path):
    path = tmp_path / "cube.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cube.npy", npy_bytes(IMAGES))
        archive.writestr("labels.npy", npy_bytes(np.zeros(50 * MB, np.uint8)), zipfile.ZIP_BZIP2)
    assert_dataset_refused(path, "stored or deflated", max_memory=MB)


def test_a_damaged_hdf5_file_is_read_or_refused(hdf5):
    file, path = hdf5
    file["z_spec"] = np.ones(2)
    file.close()
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(len(content), size=4)] = rng.integers(256, size=4)
        path.write_bytes(content.tobytes())
        with suppress(PhotozError):
            read(path)
