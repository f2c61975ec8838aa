"""`.npy` and `.npz` files that are malicious: bombs, false sizes, pickles, paths."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest

from photoz.errors import InvalidInput, TooLarge
from photoz.protocol.contract import MAX_OBJECT_ID
from service.validation import as_batch
from tests.attack.corpus import (
    CARD,
    IMAGES,
    MAX_BYTES,
    MAX_ROWS,
    MB,
    SPEC,
    Z_SPEC,
)
from tests.attack.files import make_npz, npy_bytes, npy_with_header
from tests.attack.fuzz_targets import evaluate, predict_file
from tests.attack.refusals import assert_refused, peak_memory

CENTRAL_DIRECTORY, END_OF_DIRECTORY = b"PK\x01\x02", b"PK\x05\x06"
WHOLE = make_npz({"images.npy": npy_bytes(IMAGES)})


def with_header(descr="<f4", shape=(2, *SPEC.shape)):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    return npy_with_header(header.encode(), bytes(8))


UNREADABLE = r"not a readable \.npy file"
FILES = {
    "terabytes": (with_header(shape=(2**40,)), "expected 4,398,046,511,104 bytes"),
    "overflow": (with_header(shape=(2**62, 8)), "expected 147,573,952,589,676,412,928 bytes"),
    "empty and huge": (with_header(shape=(2**40, 2**40, 0)), UNREADABLE),
    "negative": (with_header(shape=(-1, -1)), "no negative length"),
    "objects": (with_header("|O"), "nothing is unpickled"),
    "objects in fields": (with_header([("a", "<f4"), ("b", "|O")]), "nothing is unpickled"),
    "objects of variable length": (with_header("T"), "nothing is unpickled"),
    "elements without a size": (with_header("|S0", (2**62,)), "expected numbers or text"),
    "wide elements": (with_header(("<f4", (2**28,)), (16,)), "expected 17,179,869,184 bytes"),
    "deep expression": (npy_with_header(b"(" * 5000), UNREADABLE),
    "expression of signs": (npy_with_header(b"-" * 9000 + b"1"), UNREADABLE),
    "power": (npy_with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (9**9**9,)}"), UNREADABLE),
    "call": (npy_with_header(b"__import__('os')._exit(66)"), UNREADABLE),
    "a million digits": (npy_with_header(b"{'shape': (" + b"9" * 9000 + b",)}"), UNREADABLE),
    "longer than numpy reads": (npy_with_header(b" " * 60_000), UNREADABLE),
    "four gigabytes": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + bytes(1000), UNREADABLE),
    "truncated": (npy_bytes(IMAGES)[:-1], "expected 1,024 bytes for shape .* got 1,023"),
}


@pytest.mark.parametrize(("file", "reason"), FILES.values(), ids=FILES)
def test_a_malformed_npy_file_is_refused_in_little_memory(file, reason):
    for body in (file, make_npz({"images.npy": file})):
        assert_refused(predict_file, body, reason, max_memory=20 * MB)


class Bomb:
    """Ends the test run if it is unpickled."""

    def __reduce__(self):
        return os._exit, (66,)


@pytest.mark.parametrize("name", ["images", "ebv", "object_id", "z_spec", "another"])
def test_pickles_are_refused(name):
    body = io.BytesIO()
    np.savez(body, **{"images": IMAGES, "z_spec": Z_SPEC, name: np.array([Bomb()], dtype=object)})
    for decode in (predict_file, evaluate):
        assert_refused(decode, body.getvalue(), "allow_pickle=False")


def with_field(body, offset, form, value):
    """Change a field of the first entry of an archive's directory."""
    content = bytearray(body)
    struct.pack_into(form, content, body.index(CENTRAL_DIRECTORY) + offset, value)
    return bytes(content)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_larger_than_its_declared_size_is_not_unpacked(method):
    bomb = npy_bytes(np.zeros(50 * MB, np.uint8))
    body = with_field(make_npz({"images.npy": bomb}, method), 24, "<I", 1000)
    assert len(body) < MB
    assert_refused(predict_file, body, r"not a readable \.npz", max_memory=2 * MB)


@pytest.mark.parametrize("missing", [8, 1023, 1024])
def test_a_member_smaller_than_its_declared_size_is_refused(missing):
    whole = npy_bytes(IMAGES)
    body = with_field(make_npz({"images.npy": whole[:-missing]}), 24, "<I", len(whole))
    assert_refused(predict_file, body, r"expected 1,024 bytes, got")


def test_an_archive_over_the_limit_is_refused_before_it_is_unpacked():
    bomb = make_npz({"images.npy": npy_bytes(np.zeros(2 * MAX_BYTES, np.uint8))}, zipfile.ZIP_DEFLATED)
    members = make_npz({f"{i}": bytes(MAX_BYTES // 10) for i in range(11)}, zipfile.ZIP_DEFLATED)
    for body in (bomb, members):
        assert_refused(predict_file, body, "bytes unpacked", TooLarge, max_memory=MAX_BYTES // 2)


def repeat_directory(body, n):
    """Repeat the only entry of an archive's directory: n members that share their bytes."""
    start, end = body.index(CENTRAL_DIRECTORY), body.rindex(END_OF_DIRECTORY)
    directory = body[start:end] * n
    last = struct.pack("<4s4H2IH", END_OF_DIRECTORY, 0, 0, n, n, len(directory), start, 0)
    return body[:start] + directory + last


def test_a_directory_of_ten_thousand_entries_is_refused_in_little_memory():
    assert_refused(predict_file, repeat_directory(WHOLE, 10_000), "at most 64 arrays", max_memory=MB)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (repeat_directory(WHOLE, 2), "two of one name"),
        (make_npz({"images": npy_bytes(IMAGES), "images.npy": npy_bytes(IMAGES)}), "two of one name"),
        (make_npz({"images.npy": npy_bytes(IMAGES), "object_id": b""}), "object_id is not a readable"),
        (make_npz({"images.npy": npy_bytes(IMAGES), "object_id": b"just text"}), "object_id is not a readable"),
        (with_field(WHOLE, 8, "<H", 1), "encrypted|password"),
    ],
    ids=["name twice", "name with and without suffix", "empty member", "member of text", "encrypted"],
)
def test_a_malformed_archive_is_refused(body, reason):
    assert_refused(predict_file, body, reason)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "images/../images.npy", "https://localhost/images", "x" * 60_000]
)
def test_a_member_name_is_not_a_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    body = make_npz({name: npy_bytes(IMAGES)})
    assert_refused(predict_file, body, "expected an array 'images'", InvalidInput, max_length=300)
    assert list(tmp_path.iterdir()) == []


NAMES = ["é", "\U0001f30c", "", "a,b\n\"c'", "=1+1", "x" * MAX_OBJECT_ID]
NOT_NAMES = {
    "lone surrogate": np.array(["\ud800"]),
    "beyond Unicode": np.frombuffer(b"\xff\xff\xff\x7f", "<U1"),
    "beyond Unicode, big-endian": np.frombuffer(b"\x7f\xff\xff\xff", ">U1"),
    "not ASCII": np.array([b"\xfa\xff"]),
    "too long": np.array(["x" * (MAX_OBJECT_ID + 1)]),
}


def with_names(names):
    return make_npz({}, arrays={"images": np.repeat(IMAGES[:1], len(names), axis=0), "object_id": names})


@pytest.mark.parametrize("names", NOT_NAMES.values(), ids=NOT_NAMES)
def test_names_that_are_not_text_are_refused(names):
    assert_refused(predict_file, with_names(names), "expected object_id", InvalidInput)


def test_names_are_returned_unchanged():
    assert predict_file(with_names(np.array(NAMES))).names.tolist() == NAMES


@pytest.mark.parametrize("dtype", [np.dtype(("S", 8 * MB)), np.dtype(("U", 2 * MB))])
def test_wide_names_take_no_additional_memory(dtype):
    """A small compressed file can make an array of names as wide as the limit allows."""
    arrays = {"images": IMAGES, "object_id": np.array(["a", "b"], dtype)}
    batches = []
    assert peak_memory(lambda: batches.append(as_batch(arrays, CARD, MAX_ROWS))) < MB
    assert batches[0].names.tolist() == ["a", "b"]
