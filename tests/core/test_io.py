"""Cutouts in npy and npz files, also in the layout of Pasquet et al. 2019, which are mapped or streamed."""

import io
import os
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from photoz.errors import InvalidDataset, MalformedInput, TooLarge, UnsupportedType
from photoz.io import npz
from photoz.io.cutouts import Cutouts, LazyImages
from photoz.io.pasquet import is_pasquet, stream_pasquet
from photoz.io.reader import open_cutouts
from tests.core.cutout_files import COLUMNS, IMAGES, check_columns, check_images, refusal
from tests.toys import npy_bytes


def read_npy(content):
    return npz.read_array(io.BytesIO(content), len(content))


def test_npz_round_trip_and_npy_images_stay_on_disk(tmp_path):
    (tmp_path / "cutouts.npz").write_bytes(npz.npz_bytes({"images": IMAGES, **COLUMNS}))
    with open_cutouts(tmp_path / "cutouts.npz") as cutouts:
        np.testing.assert_array_equal(cutouts.images, IMAGES)
        check_columns(cutouts)
        assert (cutouts.spec, cutouts.provenance, cutouts.zero_point) == (None, "", None)
    np.save(tmp_path / "cutouts.npy", IMAGES)
    with open_cutouts(tmp_path / "cutouts.npy") as cutouts:
        assert isinstance(cutouts.images, np.memmap)
        np.testing.assert_array_equal(cutouts.images, IMAGES)
        with pytest.raises(InvalidDataset, match="^expected a column 'ra'; there are none$"):
            cutouts.column("ra")


def test_images_in_pieces_are_read_where_they_lie():
    pieces, calls = [IMAGES[:1], IMAGES[1:3], IMAGES[3:]], []

    def read(number, rows):
        calls.append((number, rows.start, rows.stop))
        return pieces[number][rows]

    images = LazyImages(read, np.array([1, 3, 4]), (8, 8, 3))
    check_images(images, IMAGES)
    calls.clear()
    for rows in (slice(1, 3), 2, slice(2, 4), slice(0, 1)):
        np.testing.assert_array_equal(images[rows], IMAGES[rows])
    assert calls == [(1, 0, 2), (1, 1, 2), (1, 1, 3), (2, 0, 1), (0, 0, 1)]
    assert LazyImages(read, np.array([], int), (8, 8, 3)).shape == (0, 8, 8, 3)


class Bomb:
    """Ends the test run if it is ever unpickled."""

    def __reduce__(self):
        return os._exit, (66,)


def test_pickled_objects_are_refused_and_never_executed(tmp_path):
    pickled = np.array([Bomb()], dtype=object)
    (tmp_path / "bomb.npy").write_bytes(npy_bytes(pickled, allow_pickle=True))
    np.savez(tmp_path / "bomb.npz", images=pickled)
    assert "not a readable .npy file of numbers" in refusal(tmp_path / "bomb.npy", MalformedInput)
    message = (
        "images is not a readable .npy file of numbers: expected numbers or text, got dtype object; nothing is unp"
    )
    assert f"not a readable .npz file: {message}" in refusal(tmp_path / "bomb.npz", MalformedInput)


def header(text):
    """Bytes of a `.npy` file with this header and no data."""
    return b"\x93NUMPY\x01\x00\x76\x00" + text.encode("latin1").ljust(117) + b"\n"


def plain(descr="'<f4'", shape="(1,)"):
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")


UNSUPPORTED = "its header has expressions or field names that are not supported"
BROKEN = {
    "empty": (b"", ""),
    "too long": (npy_bytes(IMAGES) + b"x", r"expected 3,072 bytes for shape \(4, 8, 8, 3\), got 3,073$"),
    "petabytes": (plain(shape="(1000000000000, 64, 64, 5)"), "expected 81,920,000,000,000,000 bytes for shape"),
    "negative": (plain(shape="(-1, 64)"), r"expected no negative length, got shape \(-1, 64\)$"),
    "no type": (plain("'<f9'"), ""),
    "empty type": (plain("'|S0'"), r"expected numbers or text, got dtype \|S0; nothing is unpickled"),
    "warnings": (plain(shape="(" + "1or " * 12 + "1,)"), UNSUPPORTED),
    "program": (header("__import__('os')._exit(66)"), UNSUPPORTED),
    "future version": (b"\x93NUMPY\x09\x00", r"expected version 1\.0 or 2\.0, got 9\.0$"),
    "long header": (b"\x93NUMPY\x02\x00" + (10_001).to_bytes(4, "little") + b" " * 10_001, UNSUPPORTED),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_npy_file_is_malformed(name, tmp_path):
    content, message = BROKEN[name]
    for read in (read_npy, npz.view_array):
        with pytest.raises(MalformedInput, match=rf"^not a readable \.npy file of numbers: .*{message}"):
            read(content)
    path = tmp_path / "broken.npy"
    path.write_bytes(content)
    if name not in ("too long", "empty type"):  # numpy maps the beginning of a file that is too long
        assert "not a readable .npy file of numbers" in refusal(path, MalformedInput)


def test_arrays_are_read_and_viewed():
    for array in (np.zeros((0, 3)), np.asfortranarray(IMAGES), np.arange(2.0**17), np.array(["é", ""])):
        content, second = npy_bytes(array), io.BytesIO()
        view = npz.view_array(content)
        np.lib.format.write_array(second, array, version=(2, 0))
        for given in (read_npy(content), view, read_npy(second.getvalue())):  # some in several parts
            np.testing.assert_array_equal(given, array)
        assert not view.flags.writeable
        if array.size:
            with pytest.raises(MalformedInput, match=f"expected {array.nbytes:,} bytes, got {array.nbytes - 1:,}$"):
                npz.read_array(io.BytesIO(content[:-1]), len(content))
    python_2 = header("{'shape': (2L, 1L), 'fortran_order': False, 'descr': '<f4'}") + bytes(8)
    with pytest.warns(UserWarning, match="Python 2"):
        assert read_npy(python_2).shape == (2, 1)
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }".ljust(9_999) + "\n"
    longest = b"\x93NUMPY\x02\x00" + (10_000).to_bytes(4, "little") + text.encode() + bytes(4)
    assert read_npy(longest).tolist() == [0.0]


def zipped(*names, method=zipfile.ZIP_STORED, content=npy_bytes(np.ones(1))):  # noqa: B008 - bytes
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in names:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_broken_and_incomplete_npz_files_are_refused_and_archives_have_limits():
    for content, message in (
        (b"", "^not a readable .npz file of plain arrays: File is not a zip file$"),
        (zipped(*map(str, range(65))), "of plain arrays: expected at most 64 arrays, got 65$"),
        (zipped("a.npy", "a"), "of plain arrays: expected each array once, got two of one name$"),
        (zipped("a", method=zipfile.ZIP_LZMA), "arrays: expected arrays stored or deflated, got zip method 14$"),
        (zipped("x" * 50 + ".npy", content=b""), f"^not a readable .npz file: {'x' * 40} is not a readable .npy file"),
    ):
        with pytest.raises(MalformedInput, match=message):
            npz.read_npz(io.BytesIO(content))
    assert len(npz.read_arrays(io.BytesIO(zipped(*map(str, range(64)), method=zipfile.ZIP_DEFLATED)))) == 64
    content = zipped("a.npy", "b.npy")
    archive = npz.Archive.open(io.BytesIO(content), 272)
    assert (archive.names, archive.unpacked_bytes) == (("a", "b"), 272)
    with pytest.raises(TooLarge, match=r"^expected a \.npz file of at most 271 bytes unpacked, got 272$"):
        npz.Archive.open(io.BytesIO(content), 271)
    for arrays, reason in (
        ({"cube": IMAGES}, r"^the \.npz file holds no 'images': name the images by --column; it holds cube$"),
        ({"images": IMAGES, "ebv": np.ones(3)}, "^expected 4 values of 'ebv', one for each cutout, got 3$"),
        ({"images": np.float32(1.0)}, r"^expected images of shape \(n, size, size, n_bands\), got a single number$"),
    ):
        with pytest.raises(InvalidDataset, match=reason):
            npz.read_npz(io.BytesIO(npz.npz_bytes(arrays)))
    assert Cutouts(IMAGES, {"ebv": np.float64(0.1)}).column("ebv") == 0.1


def test_missing_packages_are_named_and_paths_that_cannot_be_read_are_refused(tmp_path, monkeypatch):
    packages = {"FITS": ("astropy", "astropy"), "Parquet": ("pyarrow", "parquet"), "Zarr": ("zarr", "zarr")}
    for kind, (package, extra) in packages.items():
        monkeypatch.setitem(sys.modules, package, None)
        path = tmp_path / f"mine.{kind.lower()}"
        path.mkdir() if kind == "Zarr" else path.touch()
        message = f"{kind} files need {package}: install it with pip install 'photoz[{extra}]'"
        assert refusal(path, UnsupportedType) == message
    monkeypatch.undo()
    for name, kind in (("cutouts.txt", ".txt"), ("cutouts", "a file without suffix")):
        message = rf"^cannot read {kind}: expected \.npy, \.npz, \.fits, .* or \.parquet$"
        assert re.search(message, refusal(tmp_path / name, UnsupportedType))
    for name in ("none.h5", "none.npy", "none.npz", "none.parquet", "none*.npy"):
        refusal(tmp_path / name, FileNotFoundError)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/.hidden.npy").touch()
    assert re.search(r"^expected files of the formats \.npy, .* in the folder .*/empty$", refusal(tmp_path / "empty"))


N = 150
CUBE = np.random.default_rng(0).normal(size=(N, 8, 8, 5)).astype(np.float32)


def labels(**changes):
    fields = {
        "specObjID": np.arange(N) + 299_489_676_975_171_584,
        "objID": np.arange(N) + 1_237_648_720_693_755_918,
        "z": np.linspace(0.01, 0.5, N).astype(np.float32),
        "EBV": np.linspace(0.0, 0.2, N),
        "Dered_Petro_R": np.linspace(14.0, 18.5, N),
        "subClass": np.array(["STARFORMING"] * N),
        **changes,
    }
    return np.array([*zip(*fields.values(), strict=True)], [(name, values.dtype) for name, values in fields.items()])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sdss.npz"


def test_images_stay_on_disk_and_fields_become_columns(path):
    np.savez(path, cube=CUBE, labels=labels())
    with open_cutouts(path) as cutouts:
        check_images(cutouts.images, CUBE)
        np.testing.assert_array_equal(cutouts.read_images(np.array([149, 0, 3])), CUBE[[149, 0, 3]])
        assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
        names = {"specObjID": "specObjID", "z_spec": "z", "ebv": "EBV", "dered_petro_r": "Dered_Petro_R"}
        assert cutouts.columns.keys() == {*names, "object_id", "subClass"}
        for name, field in names.items():
            np.testing.assert_array_equal(cutouts.column(name), labels()[field])
        assert cutouts.column("object_id")[1] == "1237648720693755919"
        assert cutouts.provenance == "cutouts in the layout of Pasquet et al. 2019 (sdss.npz)"


def test_fortran_order_is_mapped_but_not_streamed(path):
    np.savez(path, cube=np.asfortranarray(CUBE), labels=np.zeros(N, [("Z", float), ("ebv", float)]))
    with open_cutouts(path) as cutouts:
        np.testing.assert_array_equal(cutouts.images, CUBE)
        assert list(cutouts.columns) == ["z_spec", "ebv"]
    with pytest.raises(InvalidDataset, match=r"^the cube in .*sdss\.npz is in Fortran order: its cutouts do not fol"):
        stream_pasquet(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_stream_yields_all_cutouts_in_small_blocks(path, save):
    save(path, cube=CUBE, labels=labels(z_spec=np.full(N, 0.3)))
    shape, columns, blocks = stream_pasquet(path)
    parts = list(blocks)
    assert (shape, [len(part) for part in parts]) == (CUBE.shape, [64, 64, 22])
    np.testing.assert_array_equal(np.concatenate(parts), CUBE)
    np.testing.assert_array_equal(columns["z"], labels()["z"])  # another field has the new name
    assert (columns["z_spec"] == 0.3).all()


def test_incomplete_file_is_refused_and_other_archives_are_not_of_this_layout(path, tmp_path):
    pickled = np.array([("a",)] * N, dtype=[("z", object)])
    for reason, arrays in (
        (f"expected an array 'labels' in addition to the cube in {path}", {}),
        (f"expected labels with named fields in {path}, got an array of float64", {"labels": np.ones(N)}),
        ("expected 150 values of 'specObjID', one for each cutout, got 9", {"labels": labels()[:9]}),
        (
            f"cube (n, size, size, n_bands) of floats in {path}, got (8, 8, 5) of float32",
            {"cube": CUBE[0], "labels": labels()},
        ),
        (f"of floats in {path}, got (150, 8, 8, 5) of int64", {"cube": CUBE.astype(int), "labels": labels()}),
        (f"the labels in {path} are not a readable array of plain values: ", {"labels": pickled}),
    ):
        np.savez(path, **{"cube": CUBE} | arrays)
        assert reason in refusal(path)
    np.savez(tmp_path / "native.npz", images=CUBE, cube=np.ones(3))
    assert not is_pasquet(tmp_path / "native.npz")
    (tmp_path / "text.npz").write_text("z_spec")
    assert "not a readable .npz file of plain arrays" in refusal(tmp_path / "text.npz", MalformedInput)


def test_compressed_damaged_and_truncated_files_are_refused(path):
    np.savez_compressed(path, cube=CUBE, labels=labels())
    content = bytearray(path.read_bytes())
    content[20_000:20_100] = bytes(100)
    path.write_bytes(content)
    message = f"{path} is compressed, so that its cutouts cannot be read one by one; once run: "
    assert refusal(path) == f"{message}python -m training convert {path} {path.with_suffix('.h5')}"
    with pytest.raises(InvalidDataset, match=f"^the cube in {path} is damaged: "):
        list(stream_pasquet(path)[2])
    np.savez(path, cube=CUBE, labels=labels())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels.npy", members["labels.npy"])
        archive.writestr("cube.npy", members["cube.npy"][:5000])
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("cube.npy").header_offset + 30 + len("cube.npy")
    missing = start + len(members["cube.npy"]) - path.stat().st_size
    assert refusal(path) == f"{path} ends before its last cutout: {missing:,} bytes are missing"
    with pytest.raises(InvalidDataset, match="sdss.npz ends before its last cutout$"):
        list(stream_pasquet(path)[2])
