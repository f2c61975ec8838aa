"""Nothing that is read opens anything else: files from elsewhere, whether sent or on disk."""

import json
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from seeds import IMAGES
from strategies import peak_memory
from targets import npy, npy_with_header, packed

from photoz.errors import InvalidDataset, MalformedInput, PhotozError
from photoz.io.reader import open_cutouts

ROOT = Path(__file__).parents[2]
MB = 2**20

# In a process of its own, since what listens for audit events can never be taken away again.
WATCHED = """
import sys
from targets import TARGETS, npy, packed, run
from seeds import IMAGES, fuzz_seeds

def attack():
    for name in TARGETS:
        for seed in fuzz_seeds(name):
            run(name, seed)
            run(name, seed[:-9])
    for name in ("http://127.0.0.1:9/images.npy", "/etc/hostname", "../images", "images"):
        run("file", b"-" + packed({name: npy(IMAGES)}))

attack()  # whatever is imported late, and whatever is compiled
events = []
sys.addaudithook(lambda event, arguments: events.append((event, arguments)))
attack()
prefixes = ("open", "os.", "socket", "subprocess", "shutil", "urllib", "http", "ctypes", "import", "pickle", "tempfile")
print([event for event in events if event[0].startswith(prefixes)])
print(len(events))
"""


def test_decoding_opens_no_file_and_no_connection_and_unpickles_nothing():
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        cwd=Path(__file__).parent,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    opened, n_events = done.stdout.splitlines()
    assert opened == "[]"
    assert int(n_events) > 0  # the literals in the headers of arrays are compiled, which is heard


@pytest.fixture
def secret(tmp_path):
    """A file that another one points at."""
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["images"] = IMAGES
        file["z_spec"] = np.ones(len(IMAGES))
    return path


def external_link(file, name, secret):
    file[name] = h5py.ExternalLink(str(secret), f"/{name}")


def soft_link_to_external(file, name, secret):
    file["notes/elsewhere"] = h5py.ExternalLink(str(secret), "/")
    file[name] = h5py.SoftLink(f"/notes/elsewhere/{name}")


def external_storage(file, name, secret):
    file.create_dataset(name, (2, 8), "u1", external=[(str(secret), 0, 16)])


def virtual(file, name, secret):
    layout = h5py.VirtualLayout((2,), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "z_spec", (2,))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("name", ["images", "z_spec"])
@pytest.mark.parametrize("point", [external_link, soft_link_to_external, external_storage, virtual])
def test_an_hdf5_file_that_points_at_another_is_refused(point, name, secret, tmp_path):
    path = tmp_path / "cutouts.h5"
    with h5py.File(path, "w") as file:
        if name != "images":
            file["images"] = IMAGES
        point(file, name, secret)
    with pytest.raises(InvalidDataset, match="other files"), open_cutouts(path):
        pass


def test_a_column_that_is_too_long_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "cutouts.h5"
    with h5py.File(path, "w") as file:
        file["images"] = IMAGES
        file.create_dataset("z_spec", (2**28,), "f8", chunks=(2**16,))  # takes no room on disk

    def refused():
        with pytest.raises(InvalidDataset, match="expected 2 values of 'z_spec'"), open_cutouts(path):
            pass

    assert peak_memory(refused) < MB


def test_a_deep_description_is_refused(tmp_path):
    path = tmp_path / "cutouts.h5"
    with h5py.File(path, "w") as file:
        file["images"] = IMAGES
        file.attrs["image_spec"] = "[" * 50_000
    with pytest.raises(InvalidDataset, match="describes its images"), open_cutouts(path):
        pass


LABELS = np.zeros(2, [("z", "<f8"), ("EBV", "<f4")])
CUBES = {
    "labels that do not end": {"labels.npy": npy(np.zeros(50 * MB, np.uint8))},
    "labels without a size": {"labels.npy": npy_with_header(b"{'descr': [], 'fortran_order': False, 'shape': (9,)}")},
    "a cube that ends early": {"labels.npy": npy(LABELS), "cube.npy": npy(IMAGES)[:-200_000]},
    "a cube of terabytes": {
        "cube.npy": npy_with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2**40, 8, 8, 2)}"),
    },
}


@pytest.mark.parametrize("members", CUBES.values(), ids=CUBES)
def test_a_cube_that_is_a_trap_is_refused_in_little_memory(members, tmp_path):
    path = tmp_path / "cube.npz"
    path.write_bytes(packed({"cube.npy": npy(IMAGES), "labels.npy": npy(LABELS)} | members))
    with pytest.raises(InvalidDataset), open_cutouts(path):
        pass


def test_labels_are_not_unpacked_by_a_method_without_limit(tmp_path):
    path = tmp_path / "cube.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cube.npy", npy(IMAGES))
        archive.writestr("labels.npy", npy(np.zeros(50 * MB, np.uint8)), zipfile.ZIP_BZIP2)

    def refused():
        with pytest.raises(InvalidDataset, match="stored or deflated"), open_cutouts(path):
            pass

    assert peak_memory(refused) < MB


def test_bytes_in_place_of_images_are_malformed(tmp_path):
    """numpy gives bytes for a member that is no array, and bytes have no shape."""
    path = tmp_path / "cutouts.npz"
    path.write_bytes(packed({"images.npy": b"no array"}))
    with pytest.raises(MalformedInput, match="images is not a readable"), open_cutouts(path):
        pass


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".npy"])
def test_no_damage_to_a_file_on_disk_raises_anything_but_a_refusal(suffix, tmp_path):
    path = tmp_path / f"cutouts{suffix}"
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["images"], file["z_spec"] = IMAGES, np.ones(2)
    else:
        path.write_bytes(npy(IMAGES) if suffix == ".npy" else packed({}, arrays={"images": IMAGES, "ebv": np.ones(2)}))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(len(content), size=4)] = rng.integers(256, size=4)
        path.write_bytes(content.tobytes())
        with suppress(PhotozError), open_cutouts(path) as cutouts:
            json.dumps(sorted(cutouts.columns))
