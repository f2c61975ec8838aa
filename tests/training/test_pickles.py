"""Pickles of labelled cutouts: what is read, and what is refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from photoz.errors import InvalidDataset, MalformedInput
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


def same(columns: dict[str, np.ndarray], expected: dict[str, object]) -> None:
    assert columns.keys() == expected.keys()
    for name, values in expected.items():
        wanted = np.asarray(values)
        np.testing.assert_array_equal(columns[name], wanted.astype(str) if wanted.dtype.kind == "S" else wanted)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_arrays_are_read_in_all_protocols(tmp_path: Path, protocol: int) -> None:
    columns = read_pickle(write(tmp_path, COLUMNS, protocol))
    same(columns, COLUMNS)
    assert columns["ebv"].dtype == np.dtype(">f4")


def test_pair_is_images_and_redshifts(tmp_path: Path) -> None:
    pair = ([*COLUMNS["images"]], COLUMNS["z_spec"].tolist())
    same(read_pickle(write(tmp_path, pair)), {"images": COLUMNS["images"], "z_spec": pair[1]})


def test_names_of_numpy_1_are_read(tmp_path: Path) -> None:
    content = pickle.dumps(COLUMNS, 2)
    assert b"numpy._core" in content
    same(read_pickle(write(tmp_path, content.replace(b"numpy._core", b"numpy.core"))), COLUMNS)


Z_SPEC, IMAGES = COLUMNS["z_spec"], COLUMNS["images"]
LABELLED = {"images": IMAGES, "z_spec": Z_SPEC}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (IMAGES, "as a dict or a pair of arrays; got PickledObject"),
        ((IMAGES, Z_SPEC, Z_SPEC), "as a dict or a pair of arrays; got tuple"),
        ("images", "as a dict or a pair of arrays; got str"),
        ({"images": IMAGES, "z": Z_SPEC}, r"'images' .* and 'z_spec' .*; got images .*, z \(float32 of \(4,\)\)"),
        ({**LABELLED, b"ebv": Z_SPEC}, "expected names of columns, got <class 'bytes'>"),
        ({**LABELLED, "a/b": Z_SPEC}, "names of columns, got 'a/b'"),
        ({**LABELLED, "\ud800": Z_SPEC}, "names of columns, got '.ud800'"),
        ({**LABELLED, "version": 1}, "'version' .* expected an array .*, got int"),
        ({**LABELLED, "ebv": [0.1]}, "expected 4 values of 'ebv', .* got 1"),
        ({**LABELLED, "ebv": np.array(0.1)}, "expected 4 values of 'ebv', .* got 1"),
        ({**LABELLED, "x": np.ones(N, complex)}, "'x' .* expected an array of numbers or text"),
        ({**LABELLED, "x": ["a", "b\0b", "c", "d"]}, "without null characters"),
        ({**LABELLED, "x": np.array([b"\xff"] * N)}, "'x' cannot be read"),
        ({"images": IMAGES, "z_spec": ["0.1"] * N}, r"'z_spec' \(n,\), .* z_spec \(<U3 of \(4,\)\)"),
        ((IMAGES[0], Z_SPEC), r"\(n, size, size, n_bands\) .* got images \(float64 of \(8, 8, 4\)\)"),
        ((np.moveaxis(IMAGES, 3, 1), Z_SPEC), r"square cutouts .* got \(4, 4, 8, 8\)"),
        (([IMAGES[0], IMAGES[1, :4]], [0.1, 0.2]), "same shape"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises((InvalidDataset, MalformedInput), match=message):
        convert_pickle(write(tmp_path, content), tmp_path / "mine.h5")
    assert not (tmp_path / "mine.h5").exists()


def test_second_pickle_in_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="the file has more content"):
        read_pickle(write(tmp_path, pickle.dumps((IMAGES, Z_SPEC)) + pickle.dumps(Z_SPEC)))


def test_converted_pickle_equals_an_npz_file_of_the_same_arrays(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_bytes(npz_bytes({**COLUMNS, "images": IMAGES.astype(np.float32)}))
    assert convert_pickle(write(tmp_path, COLUMNS), tmp_path / "mine.h5") == N
    with open_cutouts(tmp_path / "mine.npz") as expected, open_cutouts(tmp_path / "mine.h5") as converted:
        assert converted.spec is None, "a pickle does not name its bands"
        assert converted.provenance == "pickled arrays (mine.pkl)"
        np.testing.assert_array_equal(converted.images[:], expected.images)
        same(dict(converted.columns), dict(expected.columns))


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".PKL"])
def test_suffix_decides_what_is_converted(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path, COLUMNS).rename(tmp_path / f"mine{suffix}")
    done = CliRunner().invoke(main, ["convert", str(source), str(tmp_path / "mine.h5")])
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'mine.h5'}: {N} cutouts\n")
    assert done.stderr.endswith(f"\n{source}: {N} cutouts read, all used\n")  # after the progress bar


@pytest.mark.parametrize("content", [b"cos\nsystem\n.", (np.ones((2, 4, 4, 5)), [0.1, 0.2])])
def test_refusal_is_one_line_and_leaves_no_file(tmp_path: Path, content: object) -> None:
    source = write(tmp_path, content)
    done = CliRunner().invoke(main, ["convert", str(source), str(tmp_path / "mine.h5")])
    assert done.exit_code == 1
    assert done.output.startswith("Error: expected ")
    assert done.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == [source]
