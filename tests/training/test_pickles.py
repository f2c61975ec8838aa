"""Pickles of numpy arrays are read; nothing in a pickle is executed."""

import codecs
import copyreg
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from photoz.errors import InvalidDataset, MalformedInput, PhotozError
from photoz.io.npz import npz_bytes
from photoz.io.reader import open_cutouts
from training.cli import main
from training.convert import convert_pickle
from training.pickles import read_pickle

N = 4
RNG = np.random.default_rng(3)
COLUMNS = {
    "images": RNG.normal(size=(N, 8, 8, 4)),
    "z_spec": np.linspace(0.1, 0.2, N, dtype=np.float32),
    "ebv": np.full(N, 0.03, dtype=">f4"),
    "object_id": np.array(["a", "bb", "α", "d"]),
    "names": np.array([b"a", b"bb", b"c", b"d"]),
    "magnitudes": np.asfortranarray(RNG.normal(size=(N, 4))),
    "transposed": np.moveaxis(RNG.normal(size=(2, N, 3)), 0, 2),
    "reversed": np.arange(N)[::-1],
    "good": np.array([True, False, True, True]),
    "listed": [1, 2.5, True, 4],
    "scalars": [np.float32(1), np.float32(2), np.float32(3), np.float32(4)],
}


def write(folder: Path, content: object, protocol: int = 4) -> Path:
    path = folder / "mine.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


def same(found: dict[str, np.ndarray], expected: dict[str, object]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        wanted = np.asarray(values)
        np.testing.assert_array_equal(found[name], wanted.astype(str) if wanted.dtype.kind == "S" else wanted)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_arrays_are_read_in_all_protocols(tmp_path: Path, protocol: int) -> None:
    found = read_pickle(write(tmp_path, COLUMNS, protocol))
    same(found, COLUMNS)
    assert found["ebv"].dtype == np.dtype(">f4")


def test_pair_is_images_and_redshifts(tmp_path: Path) -> None:
    pair = ([*COLUMNS["images"]], COLUMNS["z_spec"].tolist())
    same(read_pickle(write(tmp_path, pair)), {"images": COLUMNS["images"], "z_spec": pair[1]})


def test_names_of_numpy_1_are_read(tmp_path: Path) -> None:
    content = pickle.dumps(COLUMNS, 2)
    assert b"numpy._core" in content
    same(read_pickle(write(tmp_path, content.replace(b"numpy._core", b"numpy.core"))), COLUMNS)


# Functions that write a pickle opcode by opcode.


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def word(text: bytes) -> bytes:
    """A string of Python 2, bytes or text."""
    return b"T" + struct.pack("<i", len(text)) + text


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def row(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + row(*arguments) + b"R"


DTYPE = name("numpy", "dtype")
RECONSTRUCT = name("numpy.core.multiarray", "_reconstruct")
NONE, NO, YES = b"N", number(0), number(1)


def dtype(text: bytes, order: bytes = b"<", inner: bytes = NONE * 3, flags: int = 0) -> bytes:
    state = row(number(3), word(order), inner, number(-1), number(-1), number(flags))
    return called(DTYPE, word(text), NO, YES) + state + b"b"


def stored(kind: bytes, shape: tuple[int, ...], data: bytes) -> bytes:
    """An array as numpy of Python 2 writes it."""
    state = row(YES, row(*map(number, shape)), kind, NO, data)
    return called(RECONSTRUCT, name("numpy", "ndarray"), row(NO), word(b"b")) + state + b"b"


def python2(z_spec: bytes, images: bytes | None = None) -> bytes:
    images = images or stored(dtype(b"f4"), (2, 8, 8, 5), word(np.ones((2, 8, 8, 5), "<f4").tobytes()))
    return b"\x80\x02}(" + word(b"images") + images + word(b"z_spec") + z_spec + b"u."


def test_python_2_pickle_is_read(tmp_path: Path) -> None:
    z_spec = np.array([0.1, 0.2], ">f8")  # its bytes are not all ASCII
    found = read_pickle(write(tmp_path, python2(stored(dtype(b"f8", b">"), (2,), word(z_spec.tobytes())))))
    same(found, {"images": np.ones((2, 8, 8, 5)), "z_spec": z_spec})


# Attacks. Those that call something create this file.

MARK = "touched"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, in which an attack that succeeds creates a file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(folder: Path, content: bytes, message: str = "") -> None:
    with pytest.raises(PhotozError, match=message) as caught:
        read_pickle(write(folder, content))
    assert "\n" not in str(caught.value)
    assert not (folder / MARK).exists()


PYTHON = f"__import__('pathlib').Path({MARK!r}).touch()".encode()
SHELL = f"touch {MARK}".encode()

RUN = {
    "posix.system": called(name("posix", "system"), word(SHELL)),
    "os.system": called(name("os", "system"), word(SHELL)),
    "subprocess": called(name("subprocess", "getoutput"), word(SHELL)),
    "builtins.eval": called(name("builtins", "eval"), word(PYTHON)),
    "builtins.exec": called(name("builtins", "exec"), word(PYTHON)),
    "eval of Python 2": called(name("__builtin__", "eval"), word(PYTHON)),
    "INST": b"(" + word(PYTHON) + b"ibuiltins\neval\n",
    "OBJ": b"(" + name("builtins", "eval") + word(PYTHON) + b"o",
    "numpy": called(name("numpy.testing", "rundocs"), word(MARK.encode())),
    "numpy.save": called(name("numpy", "savetxt"), word(MARK.encode()), row(YES)),
    "runstring": called(name("numpy.testing._private.utils", "runstring"), word(PYTHON), b"}"),
}


@pytest.mark.parametrize("attack", RUN)
def test_attacks_call_nothing(folder: Path, attack: str) -> None:
    refused(folder, b"\x80\x02" + RUN[attack] + b".", "only numpy arrays; this one asks for '")
    refused(folder, python2(RUN[attack]), "only numpy arrays; this one asks for '")


@pytest.mark.parametrize("attack", ["os.system", "builtins.eval", "numpy.save", "runstring", "OBJ", "INST"])
def test_attacks_work_with_pickle_itself(folder: Path, attack: str) -> None:
    pickle.loads(b"\x80\x02" + RUN[attack] + b".")
    assert (folder / MARK).exists()


def stack_global(module: str, attribute: str) -> bytes:
    words = [text.encode() for text in (module, attribute)]
    return b"".join(b"\x8c" + bytes([len(text)]) + text for text in words) + b"\x93"


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("numpy", "ndarray.__class__.__base__"),
        ("numpy", "dtype.__class__.__subclasses__"),
        ("numpy.core.multiarray", "_reconstruct.__self__"),
        ("numpy", "load"),
        ("numpy.f2py", "compile"),
        ("numpy.testing", "measure"),
        ("numpy", "matrix"),
        ("numpy.ma.core", "_mareconstruct"),
        ("copyreg", "_reconstructor"),
        ("copy_reg", "_reconstructor"),
        ("builtins", "getattr"),
        ("builtins", "bytes"),
        ("_codecs", "decode"),
        ("_codecs", "lookup"),
        ("joblib.numpy_pickle", "NumpyArrayWrapper"),
        ("training.pickles", "_load"),
        ("", ""),
        ("numpy\x1b[2J", "n" * 200),
    ],
)
def test_other_names_are_refused(folder: Path, module: str, attribute: str) -> None:
    refused(folder, b"\x80\x04" + stack_global(module, attribute) + b".", "this one asks for '")


def test_names_that_are_not_text_are_refused(folder: Path) -> None:
    refused(folder, b"\x80\x04" + NONE + b"\x8c\x05dtype\x93.", "not a readable pickle")


NO_REFERENCES = 63  # flags of dtype('O') without that for references

TRICKS = {
    "objects": (called(DTYPE, word(b"O8"), NO, YES), "expected arrays of numbers or text, got dtype 'O8'"),
    "objects flagged as none": (dtype(b"O", flags=0), "got dtype 'O'"),
    "fields of objects": (dtype(b"V8", inner=NONE + row(word(b"a")) + b"}", flags=NO_REFERENCES), "got dtype 'V8'"),
    "fields of numbers": (dtype(b"f8", inner=NONE + row(word(b"a")) + b"}"), "fields"),
    "more than a dtype": (called(DTYPE, word(b"f8,O"), NO, YES), "got dtype 'f8,O'"),
    "a dtype of a list": (called(DTYPE, row(word(b"f8")), NO, YES), "got dtype 'tuple'"),
    "no size": (called(DTYPE, word(b"S0"), NO, YES), "got dtype 'S0'"),
    "a dtype of no state": (called(DTYPE, word(b"f8"), NO, YES) + row(YES) + b"b", "not a readable pickle"),
    "ndarray called": (called(name("numpy", "ndarray"), row(YES), called(DTYPE, word(b"O"), NO, YES)), "got dtype 'O'"),
    "ndarray called for numbers": (called(name("numpy", "ndarray"), row(YES)), "a call of numpy.ndarray"),
    "ndarray made": (name("numpy", "ndarray") + row(row(YES)) + b"\x81", "not a readable pickle"),
    "another class": (called(RECONSTRUCT, name("numpy", "dtype"), row(NO), word(b"b")), "unknown class"),
    "a function with a state": (RECONSTRUCT + b"}" + word(b"__code__") + NONE + b"sb", "function with a state"),
    "a function with slots": (
        RECONSTRUCT + row(NONE, b"}" + word(b"__defaults__") + row(NO) + b"s") + b"b",
        "function with a state",
    ),
    "a callable in an array": (stored(dtype(b"f8"), (1,), name("os", "system")), "asks for 'os.system'"),
    "our own function in an array": (stored(dtype(b"f8"), (2,), RECONSTRUCT), "'z_spec' cannot be read"),
    "a list in an array": (stored(dtype(b"f8"), (2,), b"]"), "expected the bytes of an array, got list"),
    "no dtype": (stored(NONE, (2,), word(b"")), "expected an array with its dtype"),
    "a negative shape": (stored(dtype(b"f8"), (-1, -1), word(b"12345678")), "shape of an array"),
    "too few bytes": (stored(dtype(b"f8"), (2,), word(b"12345678")), "expected 16 bytes for shape .2,. of"),
    "too many bytes": (stored(dtype(b"f8"), (2,), word(b"1" * 24)), "expected 16 bytes"),
    "too many dimensions": (stored(dtype(b"f8"), (1,) * 99, word(b"12345678")), "'z_spec' cannot be read"),
    "an unknown size": (stored(dtype(b"i3"), (2,), word(b"123456")), "'z_spec' cannot be read"),
    "text of no characters": (stored(dtype(b"U1"), (2,), word(b"\xff" * 8)), "'z_spec' cannot be read"),
    "an array without state": (
        called(RECONSTRUCT, name("numpy", "ndarray"), row(NO), word(b"b")),
        "expected an array with its dtype",
    ),
    "not a number": (b"Fa\x1b[2J" + b"a" * 500 + b"\n", r"readable pickle .*ValueError, .{60,80}$"),
    "persistent": (b"Pone\n", "objects outside"),
    "persistent, binary": (NONE + b"Q", "objects outside"),
    "no such code of an extension": (b"\x82\xf1", "unregistered extension code"),
    "no such memo": (b"h\x63", "not a readable pickle"),
    "an external buffer": (b"\x97", "not a readable pickle"),
    "a missing mark": (b"t", "not a readable pickle"),
    "an unknown opcode": (b"\xff", "not a readable pickle"),
    "a list in itself": (b"]q\x00h\x00a", "got a list of list"),
    "a long number": (b"]\x8b" + struct.pack("<i", 60) + b"\x7f" * 60 + b"a", "numbers of at most 64 bits"),
    "a list of words and numbers": (b"](" + word(b"a") + YES + b"e", "got a list of int, str"),
    "an empty list": (b"]", "got a list of nothing"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_with_arrays_are_refused(folder: Path, trick: str) -> None:
    content, message = TRICKS[trick]
    refused(folder, python2(content), message)


@pytest.mark.parametrize("codec", ["zlib", "zlib_codec", "bz2", "rot13", "hex", "utf-8", "os", "idna", "", None, 1])
def test_codecs_other_than_latin1_are_not_looked_up(folder: Path, codec: object) -> None:
    asked: list[str] = []
    codecs.register(asked.append)
    try:
        refused(folder, b"\x80\x02" + called(name("_codecs", "encode"), word(b"a"), as_word(codec)) + b".", "codec '")
    finally:
        codecs.unregister(asked.append)
    assert not asked


def as_word(value: object) -> bytes:
    return word(value.encode()) if isinstance(value, str) else pickle.dumps(value, 2)[2:-1]


def test_bytes_are_not_encoded(folder: Path) -> None:
    bomb = called(name("_codecs", "encode"), b"C\x01a", word(b"latin1"))
    refused(folder, b"\x80\x03" + bomb + b".", "expected bytes of arrays as latin1")


@pytest.fixture
def extension():
    """An extension code for os.system that was used in this process before."""
    copyreg.add_extension(os.system.__module__, "system", 0xF0)
    try:
        assert pickle.loads(b"\x80\x02\x82\xf0.") is os.system
        yield b"\x82\xf0"
    finally:
        copyreg.remove_extension(os.system.__module__, "system", 0xF0)
        copyreg.clear_extension_cache()


def test_registered_extensions_are_refused(folder: Path, extension: bytes) -> None:
    refused(folder, b"\x80\x02" + called(extension, word(SHELL)) + b".", r"asks for '\w+\.system'")


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (SHELL.decode(),)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_objects_are_refused(folder: Path, protocol: int) -> None:
    for objects in (np.array([Bomb()] * N), np.array([None] * N)):
        refused(folder, pickle.dumps({**COLUMNS, "z_spec": objects}, protocol), "expected|asks for")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_truncated_files_are_refused(folder: Path, protocol: int) -> None:
    content = pickle.dumps({"images": np.ones((1, 8, 8, 1), np.int8), "z_spec": np.ones(1)}, protocol)
    for length in range(0, len(content), 7):
        refused(folder, content[:length], "not a readable pickle of numpy arrays: .")


Z_SPEC, IMAGES = COLUMNS["z_spec"], COLUMNS["images"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (IMAGES, r"dict of arrays by name.*got one array"),
        ((IMAGES, Z_SPEC, Z_SPEC), r"pair \(images, z_spec\); got a tuple of 3"),
        ("images", "got str"),
        ({"images": IMAGES, "z": Z_SPEC}, "'z_spec' is missing, there are images, z"),
        ({b"images": IMAGES}, "expected names of columns, got 'bytes'"),
        ({"images": IMAGES, "a/b": Z_SPEC}, "names of columns, got 'a/b'"),
        ({"images": IMAGES, "\ud800": Z_SPEC}, "names of columns"),
        ({"images": IMAGES, "z_spec": Z_SPEC, "version": 1}, "expected 'version' as an array or a list, got int"),
        ({"images": IMAGES, "z_spec": Z_SPEC, "ebv": [0.1]}, r"expected 4 values of 'ebv'.*got \(1,\)"),
        ({"images": IMAGES, "z_spec": Z_SPEC, "ebv": np.array(0.1)}, r"expected 4 values of 'ebv'.*got \(\)"),
        ({"images": IMAGES, "z_spec": Z_SPEC, "x": np.ones(N, complex)}, "got dtype 'c16'"),
        ({"images": IMAGES, "z_spec": Z_SPEC, "x": ["a", "b\0b", "c", "d"]}, "without null characters"),
        ({"images": IMAGES, "z_spec": Z_SPEC, "x": np.array([b"\xff"] * N)}, "'x' cannot be read"),
        ({"images": IMAGES, "z_spec": ["0.1"] * N}, r"z_spec as numbers of shape \(n,\), got <U3"),
        ((IMAGES[0], Z_SPEC), r"\(n, size, size, n_bands\), got float64 of \(8, 8, 4\)"),
        ((np.moveaxis(IMAGES, 3, 1), Z_SPEC), r"\(n, size, size, n_bands\), got float64 of \(4, 4, 8, 8\)"),
        (([IMAGES[0], IMAGES[1, :4]], [0.1, 0.2]), "same shape"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises((InvalidDataset, MalformedInput), match=message):
        read_pickle(write(tmp_path, content))


def test_second_pickle_in_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="the file has more content"):
        read_pickle(write(tmp_path, pickle.dumps((IMAGES, Z_SPEC)) + pickle.dumps(Z_SPEC)))


def test_converted_pickle_equals_an_npz_file_of_the_same_arrays(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_bytes(npz_bytes({**COLUMNS, "images": IMAGES.astype(np.float32)}))
    assert convert_pickle(write(tmp_path, COLUMNS), tmp_path / "mine.h5") == N
    with open_cutouts(tmp_path / "mine.npz") as expected, open_cutouts(tmp_path / "mine.h5") as found:
        assert found.spec is None, "a pickle does not name its bands"
        assert found.provenance == "pickled arrays (mine.pkl)"
        np.testing.assert_array_equal(found.images[:], expected.images)
        same(dict(found.columns), dict(expected.columns))


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".PKL"])
def test_suffix_decides_what_is_converted(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path, COLUMNS).rename(tmp_path / f"mine{suffix}")
    done = CliRunner().invoke(main, ["convert", str(source), str(tmp_path / "mine.h5")])
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'mine.h5'}: {N} cutouts\n")
    assert done.stderr == f"{source}: {N} cutouts read, all used\n"


@pytest.mark.parametrize("content", [b"cos\nsystem\n.", (np.ones((2, 4, 4, 5)), [0.1, 0.2])])
def test_refusal_is_one_line_and_leaves_no_file(tmp_path: Path, content: object) -> None:
    source = write(tmp_path, content)
    done = CliRunner().invoke(main, ["convert", str(source), str(tmp_path / "mine.h5")])
    assert done.exit_code == 1
    assert done.output.startswith("Error: expected ")
    assert done.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == [source]
