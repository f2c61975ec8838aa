"""The published cube and the paper's configuration, with sixty simulated galaxies in the layout of the cube."""

import re

import h5py
import numpy as np
import pytest

from photoz.errors import InvalidDataset
from photoz.images import SDSS_IMAGES
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from training.convert import convert_cube
from training.pipeline import evaluate_bundle

N = 60


def make_cube(folder, size=64, save=np.savez):
    """Write sixty galaxies in the layout of sdss.npz, every tenth fainter than the paper's limit."""
    labels = np.empty(N, dtype=[("objID", "i8"), ("z", "f4"), ("EBV", "f4"), ("dered_petro_r", "f4")])
    labels["objID"], labels["z"], labels["EBV"] = np.arange(N), np.linspace(0.02, 0.3, N), 0.03
    labels["dered_petro_r"] = 17.0 + 0.9 * (np.arange(N) % 10 == 9)
    cube = np.random.default_rng(0).normal(0.1, 0.1, (N, size, size, 5)).astype(np.float32)
    save(folder / f"{save.__name__}.npz", cube=cube, labels=labels)
    return folder / f"{save.__name__}.npz"


def test_compressed_cube_is_converted_and_other_files_are_refused(tmp_path, run_cli, refused):
    cube, target = make_cube(tmp_path), tmp_path / "sdss.h5"
    compressed = make_cube(tmp_path, save=np.savez_compressed)
    assert run_cli("convert", compressed, target).endswith(f"{target}: {N} cutouts\n")
    with open_cutouts(cube) as original, open_cutouts(target) as converted:
        assert isinstance(converted.images, h5py.Dataset)
        assert converted.spec == SDSS_IMAGES
        np.testing.assert_array_equal(converted.images[:], original.images[:])
        assert converted.columns.keys() == original.columns.keys()
        for name, values in original.columns.items():
            np.testing.assert_array_equal(converted.column(name), values)
    (tmp_path / "other.h5").write_bytes(b"nothing of the sort")
    with pytest.raises(InvalidDataset, match="expected an .npz file with arrays 'cube' and 'labels'"):
        convert_cube(tmp_path / "other.h5", tmp_path / "sdss.h5")
    with pytest.raises(InvalidDataset, match=r"expected cutouts of shape \(64, 64, 5\) in .*, got \(24, 24, 5\)"):
        convert_cube(make_cube(tmp_path, 24), tmp_path / "sdss.h5")
    output = refused("train", "--data", make_cube(tmp_path, 24, np.savez_compressed))
    assert re.fullmatch("Error: .*python -m training convert.*\n", output)


@pytest.mark.acceptance
def test_preset_trains_on_the_cube(tmp_path, run_cli):
    cube = make_cube(tmp_path, 24)
    tiny = ("--preset", "pasquet2019", "--epochs", 1, "--batch-size", 8, "--seeds", 2, "--only-f32", "--no-figures")
    run_cli("train", "--data", cube, *tiny, "--bundle", tmp_path / "bundle", "--run", tmp_path / "run")
    bundle = ModelBundle.load(tmp_path / "bundle")
    card = bundle.card
    assert (card.architecture.name, card.inputs.ebv) == ("pasquet", True)
    assert (card.training.n_train, card.training.n_validation, card.test.n_galaxies) == (41, 2, 11)
    evaluation = evaluate_bundle(bundle, cube, tmp_path / "report", figures=False)
    expected = card.test.scores["this model"]["crps"].value
    assert evaluation.scores["this model"]["crps"].value == pytest.approx(expected, rel=1e-4)
