"""The decoders of files against bombs, lies and damage."""

import contextlib
import io
import os
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seeds import IMAGES, NAMES, Z_SPEC, npy_files, npz_files
from strategies import ATTACK, DAMAGE, NUMBER, damaged, filled, peak_memory, refuses
from targets import CARD, LIMIT, MAX_ROWS, SPEC, evaluate, npy, npy_with_header, packed, predict_file

from photoz.errors import InvalidInput, PhotozError, TooLarge
from service.batch import as_batch

MB = 2**20
FILES = [*npy_files(), *npz_files()]
ENTRY = b"PK\x01\x02"  # of the directory of an archive


class Bomb:
    """Ends the test run if it is ever unpickled."""

    def __reduce__(self):
        return os._exit, (66,)


@pytest.mark.parametrize("body", list(npy_files()))
def test_an_array_is_read_as_numpy_reads_it(body):
    expected = np.load(io.BytesIO(body)).reshape(-1, *SPEC.shape).astype(np.float32)
    np.testing.assert_array_equal(predict_file(body).images.images, expected)


def test_the_other_seeds_are_well_formed():
    for body in npz_files():
        read = predict_file if b"pdfs" not in body and b"z_spec" not in body else evaluate
        read(body)


@ATTACK
@given(st.sampled_from(FILES), st.fixed_dictionaries(DAMAGE))
def test_no_damage_to_a_file_raises_anything_but_a_refusal(body, damage):
    body = damaged(body, **damage)
    for read in (predict_file, evaluate):
        with contextlib.suppress(PhotozError):
            read(body)


@ATTACK
@given(st.sampled_from(["images", "object_id", "ebv", "z_spec"]), st.fixed_dictionaries(DAMAGE), st.booleans())
def test_no_damage_to_an_array_in_a_whole_archive_raises_anything_but_a_refusal(name, damage, deflated):
    arrays = {"images": IMAGES, "object_id": NAMES, "ebv": np.ones(2), "z_spec": Z_SPEC}
    member = damaged(npy(arrays[name]), **damage)
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    body = packed({f"{name}.npy": member}, method, arrays)
    for read in (predict_file, evaluate):
        with contextlib.suppress(PhotozError):
            read(body)


DTYPES = st.sampled_from(
    ["<f4", ">f8", "|b1", "|O", "|S0", "<U0", "|V0", "|V8", "<c16", "<M8[s]", "<m8", "T", "<f16", "<U9", "|S999999999"]
)
FIELDS = st.lists(st.tuples(st.sampled_from(["a", "b"]), DTYPES), max_size=3)
HEADERS = filled(
    {
        "descr": st.one_of(DTYPES, FIELDS, st.tuples(DTYPES, st.tuples(NUMBER))),
        "fortran_order": st.booleans(),
        "shape": st.lists(NUMBER, max_size=5).map(tuple),
    },
    "descr",
    "fortran_order",
    "shape",
)


@ATTACK
@given(HEADERS, st.binary(max_size=64), st.sampled_from([1, 2, 3]))
def test_no_header_of_an_array_raises_anything_but_a_refusal(header, numbers, version):
    body = npy_with_header(repr(header).encode(errors="replace")[:60_000], numbers, version)
    with contextlib.suppress(PhotozError):
        predict_file(body)
    with contextlib.suppress(PhotozError):
        evaluate(packed({"z_spec.npy": body}, arrays={"images": IMAGES[:1]}))


def header(descr="<f4", shape=(2, *SPEC.shape)):
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()


# In version 2.0 the length of a header has four bytes.
HUGE = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1)
HEADERS_REFUSED = {
    "terabytes": (header(shape=(2**40,)), "expected 4,398,046,511,104 bytes"),
    "overflow": (header(shape=(2**62, 8)), "expected 147,573,952,589,676,412,928 bytes"),
    "empty and huge": (header(shape=(2**40, 2**40, 0)), "not a readable .npy file"),
    "negative": (header(shape=(-1, -1)), "no negative length"),
    "objects": (header("|O"), "nothing is unpickled"),
    "objects in fields": (header([("a", "<f4"), ("b", "|O")]), "nothing is unpickled"),
    "objects of variable length": (header("T"), "nothing is unpickled"),
    "elements without a size": (header("|S0", (2**62,)), "expected numbers or text"),
    "wide elements": (header(("<f4", (2**28,)), (16,)), "expected 17,179,869,184 bytes"),
    "deep expression": (b"(" * 5000, "not a readable .npy file"),
    "expression of signs": (b"-" * 9000 + b"1", "not a readable .npy file"),
    "power": (header(shape="9**9**9").replace(b"'9**9**9'", b"(9**9**9,)"), "not a readable .npy file"),
    "call": (b"__import__('os')._exit(66)", "not a readable .npy file"),
    "a million digits": (header().replace(b"(2,", b"(" + b"9" * 9000 + b","), "not a readable .npy file"),
    "longer than numpy reads": (b" " * 60_000, "not a readable .npy file"),
}


@pytest.mark.parametrize(("text", "reason"), HEADERS_REFUSED.values(), ids=HEADERS_REFUSED)
def test_headers_that_are_traps_are_refused_in_little_memory(text, reason):
    body = npy_with_header(text, bytes(8))
    for refused in (body, packed({"images.npy": body})):
        assert peak_memory(lambda refused=refused: refuses(predict_file, refused, reason)) < 20 * MB


def test_a_header_of_four_gigabytes_is_refused_in_little_memory():
    assert peak_memory(lambda: refuses(predict_file, HUGE + bytes(1000), r"not a readable \.npy file")) < MB


def test_pickles_are_refused_and_never_run():
    pickled = np.array([Bomb()], dtype=object)
    for name in ("images", "ebv", "object_id", "z_spec", "another"):
        body = io.BytesIO()
        np.savez(body, **{"images": IMAGES, "z_spec": Z_SPEC, name: pickled})
        for read in (predict_file, evaluate):
            refuses(read, body.getvalue(), "allow_pickle=False")


def test_numbers_that_are_not_there_are_missed():
    for body in (npy(IMAGES)[:-1], packed({"images.npy": npy(IMAGES)[:-1]})):
        refuses(predict_file, body, "expected 1,024 bytes for shape .* got 1,023")


def changed(body, offset, form, value):
    """Change a field of the first entry of an archive's directory."""
    content = bytearray(body)
    struct.pack_into(form, content, body.index(ENTRY) + offset, value)
    return bytes(content)


def test_members_that_take_more_than_they_say_are_not_unpacked():
    """The sizes in the directory are the sender's word: a member never gives more than they say."""
    bomb = npy(np.zeros(50 * MB, np.uint8))
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        body = changed(packed({"images.npy": bomb}, method), 24, "<I", 1000)
        assert len(body) < MB
        assert peak_memory(lambda body=body: refuses(predict_file, body, r"not a readable \.npz")) < 2 * MB


@pytest.mark.parametrize("missing", [8, 1023, 1024])
def test_members_that_have_less_than_they_say_are_refused(missing):
    body = changed(packed({"images.npy": npy(IMAGES)[:-missing]}), 24, "<I", len(npy(IMAGES)))
    refuses(predict_file, body, r"expected 1,024 bytes, got")


def test_what_would_unpack_to_more_than_the_limit_is_refused_before():
    bomb = packed({"images.npy": npy(np.zeros(2 * LIMIT, np.uint8))}, zipfile.ZIP_DEFLATED)
    parts = packed({f"{i}": bytes(LIMIT // 10) for i in range(11)}, zipfile.ZIP_DEFLATED)
    for body in (bomb, parts):
        assert peak_memory(lambda body=body: refuses(predict_file, body, "bytes unpacked", TooLarge)) < LIMIT // 2


def directory_of(body, n):
    """Repeat the only entry of an archive's directory: n members for the bytes of one."""
    start, end = body.index(ENTRY), body.rindex(b"PK\x05\x06")
    directory = body[start:end] * n
    return body[:start] + directory + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, n, n, len(directory), start, 0)


def test_a_directory_that_names_one_member_ten_thousand_times_is_not_even_listed():
    body = directory_of(packed({"images.npy": npy(IMAGES[:1])}), 10_000)
    assert peak_memory(lambda: refuses(predict_file, body, "at most 64 arrays")) < MB


def test_two_members_of_one_name_are_refused():
    twice = directory_of(packed({"images.npy": npy(IMAGES)}), 2)
    for body in (twice, packed({"images": npy(IMAGES), "images.npy": npy(IMAGES)})):
        refuses(predict_file, body, "two of one name")


def test_members_that_are_no_arrays_are_refused():
    for content in (b"", b"just text"):
        refuses(predict_file, packed({"images.npy": npy(IMAGES), "object_id": content}), "object_id is not a readable")


def test_encrypted_members_are_refused():
    refuses(predict_file, changed(packed({"images.npy": npy(IMAGES)}), 8, "<H", 1), "encrypted|password")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "images/../images.npy", "https://localhost/images"]
)
def test_a_name_is_a_name_and_no_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuses(predict_file, packed({name: npy(IMAGES)}), "expected an array 'images'", InvalidInput)
    assert list(tmp_path.iterdir()) == []


def test_members_of_64_bit_archives_are_read():
    """`numpy.savez` writes all of its members so."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive, archive.open("images.npy", "w", force_zip64=True) as member:
        member.write(npy(IMAGES))
    assert len(predict_file(body.getvalue())) == 2


def test_arrays_of_other_layouts_are_the_same_arrays():
    for other in (np.asfortranarray(IMAGES), IMAGES.astype(">f4"), IMAGES[::-1, ::-1][::-1, ::-1]):
        np.testing.assert_array_equal(predict_file(npy(other)).images.images, IMAGES)
        np.testing.assert_array_equal(predict_file(packed({"images.npy": npy(other)})).images.images, IMAGES)


@pytest.mark.parametrize("dtype", [np.dtype(("S", 8 * MB)), np.dtype(("U", 2 * MB))])
def test_names_that_are_wide_and_empty_take_no_room_of_their_own(dtype):
    """A few bytes of a deflated file make an array as wide as the limit allows, which must not grow any more."""
    arrays = {"images": IMAGES, "object_id": np.array(["a", "b"], dtype)}
    batches = []
    assert peak_memory(lambda: batches.append(as_batch(arrays, CARD, MAX_ROWS))) < MB
    assert batches[0].names.tolist() == ["a", "b"]
