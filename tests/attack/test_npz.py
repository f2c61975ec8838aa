"""`.npy` and `.npz` files that are malicious: bombs, false sizes, pickles, paths."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest

from photoz.errors import InvalidDataset, InvalidInput, TooLarge
from photoz.io.npz import read_npz
from photoz.protocol.contract import MAX_OBJECT_ID
from photoz.validation import as_batch
from tests.attack.corpus import CARD, IMAGES, MAX_BYTES, MAX_ROWS, MB, Z_SPEC
from tests.attack.files import make_npz, npy_bytes
from tests.attack.fuzz_targets import evaluate, predict_file
from tests.attack.malformed_inputs import NPY_FILES
from tests.attack.refusals import assert_refused, peak_memory

CENTRAL_DIRECTORY, END_OF_DIRECTORY = b"PK\x01\x02", b"PK\x05\x06"


@pytest.mark.parametrize(("file", "reason"), NPY_FILES.values(), ids=NPY_FILES)
def test_a_malformed_npy_file_is_refused_in_little_memory(file, reason):
    for body in (file, make_npz({"images.npy": file})):
        assert_refused(predict_file, body, reason, max_memory=20 * MB)


class Bomb:
    """Ends the test run if it is unpickled."""

    def __reduce__(self):
        return os._exit, (66,)


def test_pickles_are_refused():
    for name in ("images", "ebv", "object_id", "z_spec", "another"):
        body = io.BytesIO()
        np.savez(body, **{"images": IMAGES, "z_spec": Z_SPEC, name: np.array([Bomb()], dtype=object)})
        for decode in (predict_file, evaluate):
            assert_refused(decode, body.getvalue(), "allow_pickle=False")


def with_field(body, offset, form, value):
    """Change a field of the first entry of an archive's directory."""
    content = bytearray(body)
    struct.pack_into(form, content, body.index(CENTRAL_DIRECTORY) + offset, value)
    return bytes(content)


def repeat_directory(body, n):
    """Repeat the only entry of an archive's directory: n members that share their bytes."""
    start, end = body.index(CENTRAL_DIRECTORY), body.rindex(END_OF_DIRECTORY)
    directory = body[start:end] * n
    last = struct.pack("<4s4H2IH", END_OF_DIRECTORY, 0, 0, n, n, len(directory), start, 0)
    return body[:start] + directory + last


def false_size(declared, content, method=zipfile.ZIP_STORED):
    return with_field(make_npz({"images.npy": content}, method), 24, "<I", declared)


WHOLE, LARGE = npy_bytes(IMAGES), npy_bytes(np.zeros(50 * MB, np.uint8))
ARCHIVE = make_npz({"images.npy": WHOLE})
ARCHIVES = {
    "ten thousand entries": (repeat_directory(ARCHIVE, 10_000), "at most 64 arrays"),
    "name twice": (repeat_directory(ARCHIVE, 2), "two of one name"),
    "name with and without suffix": (make_npz({"images": WHOLE, "images.npy": WHOLE}), "two of one name"),
    "empty member": (make_npz({"images.npy": WHOLE, "object_id": b""}), "object_id is not a readable"),
    "text": (make_npz({"images.npy": WHOLE, "x" * 41: b"text"}), f"file: {'x' * 40} is not a readable"),
    "encrypted": (with_field(ARCHIVE, 8, "<H", 1), "encrypted|password"),
    **{f"{n} bytes less": (false_size(len(WHOLE), WHOLE[:-n]), "expected 1,024 bytes, got") for n in (8, 1023, 1024)},
    "deflated bomb": (false_size(1000, LARGE, zipfile.ZIP_DEFLATED), r"not a readable \.npz"),
    "bzip2 bomb": (false_size(1000, LARGE, zipfile.ZIP_BZIP2), r"not a readable \.npz"),
    "LZMA bomb": (false_size(1000, LARGE, zipfile.ZIP_LZMA), r"not a readable \.npz"),
}


@pytest.mark.parametrize(("body", "reason"), ARCHIVES.values(), ids=ARCHIVES)
def test_a_malformed_archive_is_refused_in_little_memory(body, reason):
    assert_refused(predict_file, body, reason, max_memory=2 * MB)


def test_an_archive_over_the_limit_is_refused_before_it_is_unpacked():
    bomb = make_npz({"images.npy": npy_bytes(np.zeros(2 * MAX_BYTES, np.uint8))}, zipfile.ZIP_DEFLATED)
    members = make_npz({f"{i}": bytes(MAX_BYTES // 10) for i in range(11)}, zipfile.ZIP_DEFLATED)
    for body in (bomb, members):
        assert_refused(predict_file, body, "bytes unpacked", TooLarge, max_memory=MAX_BYTES // 2)


def test_a_member_name_is_not_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("../../etc/passwd", "/etc/passwd", "images/../images.npy", "https://localhost/images", "x" * 60_000):
        assert_refused(predict_file, make_npz({name: WHOLE}), "an array 'images'", InvalidInput, max_length=300)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["bands", "unit", "zero_point", "pixel_scale", "image_spec", "provenance"])
def test_a_long_description_is_refused_before_it_is_read(name):
    # Some took the square of its length: seconds for 20,000 characters, which a few hundred bytes unpack into.
    body = make_npz({}, zipfile.ZIP_DEFLATED, {"images": IMAGES, name: np.array("Jy" + " " * 5000 + "x")})
    assert_refused(predict_file, body, f"bytes of {name}, expected at most 4,096", InvalidDataset, max_length=100)


def test_long_names_of_arrays_are_not_searched():
    arrays = {"images": IMAGES, "zpt" * 20_000: np.array(22.5), "zpt": np.array(22.5)}
    (names,) = read_npz(io.BytesIO(make_npz({}, arrays=arrays))).unread.values()
    assert names == ["zpt = 22.5"]


NOT_NAMES = {
    "lone surrogate": (np.array(["\ud800"]), "as text, got code points that are not Unicode characters"),
    "beyond Unicode": (np.frombuffer(b"\xff\xff\xff\x7f", "<U1"), "as text, got "),
    "beyond Unicode, big-endian": (np.frombuffer(b"\x7f\xff\xff\xff", ">U1"), "as text, got "),
    "not ASCII": (np.array([b"\xfa\xff"]), "as text, got other bytes"),
    "too long": (np.array(["x" * (MAX_OBJECT_ID + 1)]), "of at most 256 characters, got one of 257"),
}


def with_names(names):
    return make_npz({}, arrays={"images": np.repeat(IMAGES[:1], len(names), axis=0), "object_id": names})


@pytest.mark.parametrize(("names", "reason"), NOT_NAMES.values(), ids=NOT_NAMES)
def test_names_are_text(names, reason):
    assert_refused(predict_file, with_names(names), f"^expected object_id {reason}", InvalidInput)


def test_names_are_unchanged_and_wide_ones_take_no_additional_memory():
    names = ["é", "\U0001f30c", "", "a,b\n\"c'", "=1+1", "x" * MAX_OBJECT_ID]
    assert predict_file(with_names(np.array(names))).names.tolist() == names
    for dtype in (np.dtype(("S", 8 * MB)), np.dtype(("U", 2 * MB))):  # a small compressed file can have them
        arrays, batches = {"images": IMAGES, "object_id": np.array(["a", "b"], dtype)}, []
        assert peak_memory(lambda a=arrays, b=batches: b.append(as_batch(a, CARD, MAX_ROWS))) < MB
        assert batches[0].names.tolist() == ["a", "b"]
