"""Cutouts in a survey's own files, and pickles, in which nothing is executed, converted to described HDF5."""

import copyreg
import os
import pickle
import struct

import numpy as np
import pytest
from astropy.io import fits

from photoz.errors import PhotozError
from photoz.images import ImageSpec
from photoz.io.npz import npz_bytes
from photoz.io.reader import open_cutouts
from training.convert import convert_pickle
from training.pickles import read_pickle

BANDS_FIRST = np.random.default_rng(0).normal(size=(5, 4, 12, 12)).astype(np.float32)
BANDS_LAST = np.moveaxis(BANDS_FIRST, 1, -1)


@pytest.fixture
def convert(tmp_path, run_cli):
    """Return a function that converts BANDS_FIRST with a FITS header, or an .npz file; returns spec, images, output."""

    def run(options, suffix="fits", exit_code=0, **header):
        source, target = tmp_path / f"mine.{suffix}", tmp_path / "mine.h5"
        target.unlink(missing_ok=True)
        if suffix == "npz":
            np.savez(source, images=BANDS_LAST, z_spec=np.full(5, 0.1))
        else:
            fits.PrimaryHDU(BANDS_FIRST, fits.Header(header)).writeto(source, overwrite=True)
        output = run_cli("convert", source, target, *options.split(), exit_codes=(exit_code,))
        if exit_code:
            assert not target.exists()
            return output
        with open_cutouts(target) as cutouts:
            assert cutouts.columns.keys() == ({"z_spec"} if suffix == "npz" else set())
            return cutouts.spec, cutouts.images[:], output

    return run


def test_files_become_described_hdf5_files(convert):
    assert "which bands" in convert("--pixel-scale 0.2", "npz", 1)
    assert "how wide its pixels are" in convert("--bands griz", "npz", 1)
    spec, images, _ = convert("--bands griz --pixel-scale 0.2", "npz")
    assert spec == ImageSpec(size=12, bands="griz", pixel_scale=0.2)
    np.testing.assert_array_equal(images, BANDS_LAST)
    spec, images, _ = convert("--bands zr --pixel-scale 0.2", BANDS="griz", BUNIT="nanomaggy")
    assert spec.bands == ("z", "r")
    np.testing.assert_array_equal(images, BANDS_LAST[..., [3, 1]])
    spec, images, report = convert("--pixel-scale 0.2 --size 8", BANDS="griz", BUNIT="nJy")
    assert (
        "/mine.fits: 5 cutouts read, all used\n"
        "  used: pixels are multiplied by 0.000275406, for the unit nJy\n"
        "  used: pixels are 0.2 arcsec wide\n"
        "  used: the central 8x8 of 12x12 pixels\n"
        "  assumed: Galactic extinction is that of SDSS's bands\n"
    ) in report
    assert spec == ImageSpec(size=8, bands="griz", pixel_scale=0.2, unit="nanomaggy")
    np.testing.assert_allclose(images, BANDS_LAST[:, 2:10, 2:10] * 1e-3 / 3.631, rtol=1e-6)
    scale = {"CDELT1": 0.4 / 3600, "CDELT2": 0.4 / 3600, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    header = {"BANDS": "griz", "BUNIT": "nJy", **scale}
    error = convert("--survey legacy", exit_code=1, **header)
    assert "expected pixels of 0.262 arcsec, got 0.4: resample them" in error
    spec, _, report = convert("--survey legacy --resample --size 10", **header)
    assert (spec.pixel_scale, spec.size) == (0.262, 10)
    assert "used: pixels of 0.4 arcsec are resampled to 0.262 arcsec" in report
    spec, images, _ = convert("--survey legacy --pixel-scale 0.4", **header)
    assert (spec.pixel_scale, spec.extinction_coefficients[0]) == (0.4, 3.214)
    np.testing.assert_allclose(images, BANDS_LAST * 1e-3 / 3.631, rtol=1e-6)
    spec, images, report = convert("--survey hsc --bands grzy")
    assert "pixels are multiplied by 0.0158489, for the zero point 27" in report
    assert spec.extinction_coefficients == (3.240, 2.276, 1.263, 1.075)
    assert (spec.pixel_scale, spec.unit) == (0.168, "nanomaggy")
    np.testing.assert_allclose(images, BANDS_LAST * 10**-1.8, rtol=1e-6)


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
Z_SPEC, IMAGES = COLUMNS["z_spec"], COLUMNS["images"]
LABELLED = {"images": IMAGES, "z_spec": Z_SPEC}
MARK = "touched"  # the file that an attack creates if it succeeds


def write(folder, content, protocol=4):
    path = folder / "mine.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


def same(columns, expected):
    assert columns.keys() == expected.keys()
    for name, values in expected.items():
        wanted = np.asarray(values)
        np.testing.assert_array_equal(columns[name], wanted.astype(str) if wanted.dtype.kind == "S" else wanted)


def name(path):
    """Name a function; this and the next functions return parts of a pickle of Python 2."""
    return "c{}\n{}\n".format(*path.split(":")).encode()


def word(text):
    return b"T" + struct.pack("<i", len(text)) + text


def row(*items):
    return b"(" + b"".join(b"J" + struct.pack("<i", item) if isinstance(item, int) else item for item in items) + b"t"


def called(function, *arguments):
    return name(function) + row(*arguments) + b"R"


def dtype(text, order=b"<", inner=b"NNN", flags=0):
    return called("numpy:dtype", word(text), 0, 1) + row(3, word(order), inner, -1, -1, flags) + b"b"


RECONSTRUCT = "numpy.core.multiarray:_reconstruct"
F8, EIGHT = dtype(b"f8"), word(b"12345678")
PYTHON = word(f"__import__('pathlib').Path({MARK!r}).touch()".encode())
SHELL = word(f"touch {MARK}".encode())


def stored(kind, shape=(1,), data=EIGHT):
    """An array as numpy of Python 2 writes it."""
    return called(RECONSTRUCT, name("numpy:ndarray"), row(0), word(b"b")) + row(1, row(*shape), kind, 0, data) + b"b"


def python2(z_spec):
    images = stored(dtype(b"f4"), (2, 8, 8, 5), word(np.ones((2, 8, 8, 5), "<f4").tobytes()))
    return b"\x80\x02}(" + word(b"images") + images + word(b"z_spec") + z_spec + b"u."


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Return a function that converts a pickle, which must fail, and checks that nothing was called or written."""
    monkeypatch.chdir(tmp_path)

    def convert(content, message):
        with pytest.raises(PhotozError, match=message) as caught:
            convert_pickle(write(tmp_path, content), tmp_path / "mine.h5")
        assert "\n" not in str(caught.value)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.pkl"]

    return convert


def test_pickled_arrays_of_all_protocols_are_read_and_converted(tmp_path, run_cli):
    for protocol in range(6):
        columns = read_pickle(write(tmp_path, COLUMNS, protocol))
        same(columns, COLUMNS)
        assert columns["ebv"].dtype == np.dtype(">f4")
    content = pickle.dumps(COLUMNS, 2)
    assert b"numpy._core" in content
    same(read_pickle(write(tmp_path, content.replace(b"numpy._core", b"numpy.core"))), COLUMNS)  # of numpy 1
    pair = ([*IMAGES], Z_SPEC.tolist())
    same(read_pickle(write(tmp_path, pair)), {"images": IMAGES, "z_spec": pair[1]})
    z_spec = np.array([0.1, 0.2], ">f8")  # its bytes are not all ASCII
    columns = read_pickle(write(tmp_path, python2(stored(dtype(b"f8", b">"), (2,), word(z_spec.tobytes())))))
    same(columns, {"images": np.ones((2, 8, 8, 5)), "z_spec": z_spec})
    source, target = write(tmp_path, COLUMNS).rename(tmp_path / "mine.PKL"), tmp_path / "mine.h5"
    (tmp_path / "mine.npz").write_bytes(npz_bytes({**COLUMNS, "images": IMAGES.astype(np.float32)}))
    report = f"\n{source}: {N} cutouts read, all used\n{target}: {N} cutouts\n"
    assert "--select is not for pickles" in run_cli("convert", source, target, "--select", "z_spec>0", exit_codes=(2,))
    assert run_cli("convert", source, target).endswith(report)  # after the progress bar
    with open_cutouts(tmp_path / "mine.npz") as expected, open_cutouts(target) as converted:
        assert converted.spec is None, "a pickle does not name its bands"
        assert converted.provenance == "pickled arrays (mine.PKL)"
        np.testing.assert_array_equal(converted.images[:], expected.images)
        same(dict(converted.columns), dict(expected.columns))


def test_attacks_call_nothing(refused, tmp_path):
    for attack in (
        called("os:system", SHELL),
        b"(" + PYTHON + b"ibuiltins\neval\n",  # the opcode INST
        b"(" + name("builtins:eval") + PYTHON + b"o",  # OBJ
        called("numpy:savetxt", word(MARK.encode()), row(1)),
    ):
        for content in (b"\x80\x02" + attack + b".", python2(attack)):
            refused(content, "only numpy arrays: .*it asks for '")
        pickle.loads(b"\x80\x02" + attack + b".")
        (tmp_path / MARK).unlink()  # the attack works with pickle itself
    for path in (
        *("numpy:ndarray.__class__.__base__", "numpy.core.multiarray:_reconstruct.__self__", "numpy:load", ":"),
        *("numpy.ma.core:_mareconstruct", "copyreg:_reconstructor", "builtins:bytes", "_codecs:decode"),
        *("joblib.numpy_pickle:NumpyArrayWrapper", "training.pickles:_array", "numpy\x1b[2J:" + "n" * 200),
    ):
        words = b"".join(b"\x8c" + bytes([len(part)]) + part for part in path.encode().split(b":"))
        refused(b"\x80\x04" + words + b"\x93.", "it asks for '")


FIELDS, NO_REFERENCES = b"N" + row(word(b"a")) + b"}", 63  # flags of dtype('O') without that for references
UNREADABLE, ODD_DTYPE, ODD_ARRAY = "expected a pickle of only", "array of numbers or text", "'z_spec' cannot be read"
TRICKS = [
    (stored(called("numpy:dtype", word(b"O8"), 0, 1)), ODD_DTYPE),
    (stored(dtype(b"V8", inner=FIELDS, flags=NO_REFERENCES)), ODD_DTYPE),
    (stored(dtype(b"f8,O")), ODD_DTYPE),
    (stored(dtype(b"S0"), data=word(b"")), ODD_DTYPE),
    (stored(called("numpy:dtype", word(b"f8"), 0, 1)), ODD_DTYPE),  # without a state
    (called("numpy:ndarray", row(1), called("numpy:dtype", word(b"O"), 0, 1)), ODD_ARRAY),
    (stored(F8, data=name("os:system")), "asks for 'os.system'"),
    (stored(F8, data=name(RECONSTRUCT)), "expected the bytes of an array, got PickledObject"),
    (stored(F8, data=called("_codecs:encode", b"C\1a", word(b"latin1"))), "bytes of an array"),
    (stored(F8, data=called("_codecs:encode", EIGHT, word(b"zlib"))), "bytes of an array, got PickledObject"),
    (stored(F8, (-1, -1)), ODD_ARRAY),
    (stored(F8, (2,)), "too small for requested array"),
    (stored(F8, (2,), word(b"1" * 24)), "expected 16 bytes for shape .2,. of float64, got 24"),
    (stored(dtype(b"i3"), (2,), word(b"123456")), ODD_ARRAY),
    (stored(dtype(b"U1"), (2,), word(b"\xff" * 8)), ODD_ARRAY),  # no characters
    (b"Fa\x1b[2J" + b"a" * 500 + b"\n", rf"{UNREADABLE} .*ValueError.{{60,150}}$"),
    (b"N\x8c\x05dtype\x93", UNREADABLE),  # a name that is not text
    (b"\x82\xf1", "unregistered extension code"),
    (b"]q\x00h\x00a", "a flat list of one type, got list"),  # a list in itself
    (b"]\x8b" + struct.pack("<i", 60) + b"\x7f" * 60 + b"a", "numbers of at most 64 bits"),
    (b"]", "expected 2 values of 'z_spec', one for each cutout, got 0"),
]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps((IMAGES, Z_SPEC)) + pickle.dumps(Z_SPEC), "the file has more content"),
        (IMAGES, "as a dict or a pair of arrays; got PickledObject"),
        ((IMAGES, Z_SPEC, Z_SPEC), "as a dict or a pair of arrays; got tuple"),
        ({"images": IMAGES, "z": Z_SPEC}, r"'images' .* and 'z_spec' .*; got images .*, z \(float32 of \(4,\)\)"),
        ({**LABELLED, b"ebv": Z_SPEC}, "expected names of columns, got <class 'bytes'>"),
        ({**LABELLED, "a/b": Z_SPEC}, "names of columns, got 'a/b'"),
        ({**LABELLED, "\ud800": Z_SPEC}, "names of columns, got '.ud800'"),
        ({**LABELLED, "version": 1}, "'version' .* expected an array .*, got int"),
        ({**LABELLED, "ebv": np.array(0.1)}, "expected 4 values of 'ebv', .* got 1"),
        ({**LABELLED, "x": np.ones(N, complex)}, "'x' .* expected an array of numbers or text"),
        ({**LABELLED, "x": ["a", "b\0b", "c", "d"]}, "without null characters"),
        ({**LABELLED, "x": np.array([b"\xff"] * N)}, "'x' cannot be read"),
        ({"images": IMAGES, "z_spec": ["0.1"] * N}, r"'z_spec' \(n,\), .* z_spec \(<U3 of \(4,\)\)"),
        ((IMAGES[0], Z_SPEC), r"\(n, size, size, n_bands\) .* got images \(float64 of \(8, 8, 4\)\)"),
        ((np.moveaxis(IMAGES, 3, 1), Z_SPEC), r"square cutouts .* got \(4, 4, 8, 8\)"),
        ((np.ones((N, 4, 4, 5)), Z_SPEC), r"cutouts of 8 to 1024 pixels .* got \(4, 4, 4, 5\)"),
        (([IMAGES[0], IMAGES[1, :4]], [0.1, 0.2]), "same shape"),
        *((python2(trick), message) for trick, message in TRICKS),
    ],
)
def test_other_contents_are_refused(refused, content, message):
    refused(content, message)


def test_registered_extensions_are_refused(refused):
    copyreg.add_extension(os.system.__module__, "system", 0xF0)
    try:
        assert pickle.loads(b"\x80\x02\x82\xf0.") is os.system  # from here on in a cache
        refused(b"\x80\x02\x82\xf0" + row(SHELL) + b"R.", r"asks for '\w+\.system'")
    finally:
        copyreg.remove_extension(os.system.__module__, "system", 0xF0)
        copyreg.clear_extension_cache()


def test_arrays_of_objects_and_truncated_files_are_refused(refused):
    for protocol in range(6):
        content = pickle.dumps({**LABELLED, "z_spec": np.array([None] * N)}, protocol)
        refused(content, "expected an array of numbers or text|asks for")
        content = pickle.dumps({"images": np.ones((1, 8, 8, 1), np.int8), "z_spec": np.ones(1)}, protocol)
        for length in range(0, len(content), 7):
            refused(content[:length], UNREADABLE)
