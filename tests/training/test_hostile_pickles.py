"""Hostile and damaged pickles: nothing in them is executed, and the refusal is one line."""

import codecs
import copyreg
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from photoz.errors import PhotozError
from tests.training.test_pickles import COLUMNS, N, same, write
from training.pickles import read_pickle

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
ENCODE, FROMBUFFER = name("_codecs", "encode"), name("numpy.core.numeric", "_frombuffer")
NONE, NO, YES = b"N", number(0), number(1)


def dtype(text: bytes, order: bytes = b"<", inner: bytes = NONE * 3, flags: int = 0) -> bytes:
    state = row(number(3), word(order), inner, number(-1), number(-1), number(flags))
    return called(DTYPE, word(text), NO, YES) + state + b"b"


F8, EIGHT = dtype(b"f8"), word(b"12345678")


def stored(kind: bytes, shape: tuple[int, ...] = (1,), data: bytes = EIGHT) -> bytes:
    """An array as numpy of Python 2 writes it."""
    state = row(YES, row(*map(number, shape)), kind, NO, data)
    return called(RECONSTRUCT, name("numpy", "ndarray"), row(NO), word(b"b")) + state + b"b"


def python2(z_spec: bytes, images: bytes | None = None) -> bytes:
    images = images or stored(dtype(b"f4"), (2, 8, 8, 5), word(np.ones((2, 8, 8, 5), "<f4").tobytes()))
    return b"\x80\x02}(" + word(b"images") + images + word(b"z_spec") + z_spec + b"u."


def test_python_2_pickle_is_read(tmp_path: Path) -> None:
    z_spec = np.array([0.1, 0.2], ">f8")  # its bytes are not all ASCII
    columns = read_pickle(write(tmp_path, python2(stored(dtype(b"f8", b">"), (2,), word(z_spec.tobytes())))))
    same(columns, {"images": np.ones((2, 8, 8, 5)), "z_spec": z_spec})


# Attacks. Those that call something create this file.

MARK = "touched"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, in which an attack that succeeds creates a file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(folder: Path, content: object, message: str) -> None:
    with pytest.raises(PhotozError, match=message) as caught:
        read_pickle(write(folder, content))
    assert "\n" not in str(caught.value)
    assert not (folder / MARK).exists()


PYTHON = f"__import__('pathlib').Path({MARK!r}).touch()".encode()
SHELL = f"touch {MARK}".encode()

ATTACKS = {
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


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_call_nothing(folder: Path, attack: str) -> None:
    refused(folder, b"\x80\x02" + ATTACKS[attack] + b".", "only numpy arrays: .*it asks for '")
    refused(folder, python2(ATTACKS[attack]), "only numpy arrays: .*it asks for '")


@pytest.mark.parametrize("attack", ["os.system", "builtins.eval", "numpy.save", "runstring", "OBJ", "INST"])
def test_attacks_work_with_pickle_itself(folder: Path, attack: str) -> None:
    pickle.loads(b"\x80\x02" + ATTACKS[attack] + b".")
    assert (folder / MARK).exists()


def stack_global(module: str, attribute: str) -> bytes:
    words = [text.encode() for text in (module, attribute)]
    return b"".join(b"\x8c" + bytes([len(text)]) + text for text in words) + b"\x93"


@pytest.mark.parametrize(
    "path",
    [
        *("numpy:ndarray.__class__.__base__", "numpy:dtype.__class__.__subclasses__", "numpy:load", "numpy:matrix"),
        *("numpy.core.multiarray:_reconstruct.__self__", "numpy.f2py:compile", "numpy.testing:measure"),
        *("numpy.ma.core:_mareconstruct", "copyreg:_reconstructor", "copy_reg:_reconstructor", "builtins:getattr"),
        *("builtins:bytes", "_codecs:decode", "_codecs:lookup", "joblib.numpy_pickle:NumpyArrayWrapper"),
        *("training.pickles:_array", ":", "numpy\x1b[2J:" + "n" * 200),
    ],
)
def test_other_names_are_refused(folder: Path, path: str) -> None:
    refused(folder, b"\x80\x04" + stack_global(*path.split(":")) + b".", "it asks for '")


NO_REFERENCES = 63  # flags of dtype('O') without that for references
FIELDS = NONE + row(word(b"a")) + b"}"
UNREADABLE, ODD_DTYPE, ODD_ARRAY = "expected a pickle of only", "array of numbers or text", "'z_spec' cannot be read"


TRICKS = {
    "objects": (stored(called(DTYPE, word(b"O8"), NO, YES)), ODD_DTYPE),
    "objects flagged as none": (stored(dtype(b"O", flags=0)), ODD_DTYPE),
    "fields of objects": (stored(dtype(b"V8", inner=FIELDS, flags=NO_REFERENCES)), ODD_DTYPE),
    "fields of numbers": (stored(dtype(b"f8", inner=FIELDS)), ODD_DTYPE),
    "more than a dtype": (stored(dtype(b"f8,O")), ODD_DTYPE),
    "a dtype of a list": (stored(called(DTYPE, row(word(b"f8")), NO, YES)), ODD_DTYPE),
    "no size": (stored(dtype(b"S0"), data=word(b"")), ODD_DTYPE),
    "a dtype of no state": (stored(called(DTYPE, word(b"f8"), NO, YES)), ODD_DTYPE),
    "no dtype": (stored(NONE), ODD_DTYPE),
    "ndarray called": (called(name("numpy", "ndarray"), row(YES), called(DTYPE, word(b"O"), NO, YES)), ODD_ARRAY),
    "ndarray made": (name("numpy", "ndarray") + row(row(YES)) + b"\x81", UNREADABLE),
    "another class": (called(RECONSTRUCT, name("numpy", "dtype"), row(NO), word(b"b")), ODD_ARRAY),
    "a function with a state": (RECONSTRUCT + b"}" + word(b"__code__") + NONE + b"sb", ODD_ARRAY),
    "a function with slots": (RECONSTRUCT + row(NONE, b"}" + word(b"__defaults__") + row(NO) + b"s") + b"b", ODD_ARRAY),
    "a callable in an array": (stored(F8, data=name("os", "system")), "asks for 'os.system'"),
    "a function in an array": (stored(F8, data=RECONSTRUCT), "expected the bytes of an array"),
    "bytes that are encoded": (stored(F8, data=called(ENCODE, b"C\x01a", word(b"latin1"))), "the bytes of an array"),
    "a list in an array": (stored(F8, data=b"]"), "expected the bytes of an array, got list"),
    "no bytes in an array": (stored(F8, data=NONE), "expected the bytes of an array, got NoneType"),
    "a negative shape": (stored(F8, (-1, -1)), ODD_ARRAY),
    "a shape of text": (called(FROMBUFFER, EIGHT, F8, row(word(b"1")), word(b"C")), ODD_ARRAY),
    "too few bytes": (stored(F8, (2,)), "too small for requested array"),
    "too many bytes": (stored(F8, (2,), word(b"1" * 24)), "expected 16 bytes for shape .2,. of float64, got 24"),
    "too many dimensions": (stored(F8, (1,) * 99), ODD_ARRAY),
    "an unknown size": (stored(dtype(b"i3"), (2,), word(b"123456")), ODD_ARRAY),
    "text of no characters": (stored(dtype(b"U1"), (2,), word(b"\xff" * 8)), ODD_ARRAY),
    "not a number": (b"Fa\x1b[2J" + b"a" * 500 + b"\n", rf"{UNREADABLE} .*ValueError.{{60,150}}$"),
    "a name that is not text": (NONE + b"\x8c\x05dtype\x93", UNREADABLE),
    "persistent": (b"Pone\n", UNREADABLE),
    "no such code of an extension": (b"\x82\xf1", "unregistered extension code"),
    "an external buffer": (b"\x97", UNREADABLE),
    "an unknown opcode": (b"\xff", UNREADABLE),
    "a list in itself": (b"]q\x00h\x00a", "a flat list of one type, got list"),
    "a long number": (b"]\x8b" + struct.pack("<i", 60) + b"\x7f" * 60 + b"a", "numbers of at most 64 bits"),
    "a list of words and numbers": (b"](" + word(b"a") + YES + b"e", "a flat list of one type"),
    "an empty list": (b"]", "expected 2 values of 'z_spec', one for each cutout, got 0"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_with_arrays_are_refused(folder: Path, trick: str) -> None:
    content, message = TRICKS[trick]
    refused(folder, python2(content), message)


@pytest.mark.parametrize("codec", ["zlib", "zlib_codec", "bz2", "rot13", "hex", "utf-8", "os", "idna", "", None, 1])
def test_codecs_other_than_latin1_are_not_looked_up(folder: Path, codec: object) -> None:
    asked: list[str] = []
    codecs.register(asked.append)
    encoded = called(ENCODE, word(b"a"), pickle.dumps(codec, 2)[2:-1])
    try:
        refused(folder, python2(stored(dtype(b"S1"), (1,), encoded)), "expected the bytes of an array")
    finally:
        codecs.unregister(asked.append)
    assert not asked


def test_registered_extensions_are_refused(folder: Path) -> None:
    copyreg.add_extension(os.system.__module__, "system", 0xF0)
    try:
        assert pickle.loads(b"\x80\x02\x82\xf0.") is os.system  # from here on in a cache
        refused(folder, b"\x80\x02" + called(b"\x82\xf0", word(SHELL)) + b".", r"asks for '\w+\.system'")
    finally:
        copyreg.remove_extension(os.system.__module__, "system", 0xF0)
        copyreg.clear_extension_cache()


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (SHELL.decode(),)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_objects_are_refused(folder: Path, protocol: int) -> None:
    for objects in (np.array([Bomb()] * N), np.array([None] * N)):
        refused(
            folder,
            pickle.dumps({**COLUMNS, "z_spec": objects}, protocol),
            "expected an array of numbers or text|asks for",
        )


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_truncated_files_are_refused(folder: Path, protocol: int) -> None:
    content = pickle.dumps({"images": np.ones((1, 8, 8, 1), np.int8), "z_spec": np.ones(1)}, protocol)
    for length in range(0, len(content), 7):
        refused(folder, content[:length], UNREADABLE)
