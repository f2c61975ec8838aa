from pathlib import Path

import numpy as np

from photoz.images import SDSS_IMAGES
from photoz.io.reader import open_cutouts
from training.batches import Augmentation, Batches, turn_and_flip

NOISE = np.full(5, 0.05)


def batches(cutouts, rows, seed=None, first_epoch=0, **augmentation) -> Batches:  # noqa: ANN001
    targets = cutouts.column("z_spec")[rows].astype(np.float32)[:, np.newaxis]
    options = {"batch_size": 32, "with_ebv": True, "ebv_default": 0.03, "first_epoch": first_epoch}
    changes = None if seed is None else Augmentation(seed, NOISE, **augmentation)
    return Batches(cutouts, rows, SDSS_IMAGES, targets, **options, augmentation=changes)


def test_epoch_has_each_galaxy_once_with_its_redshift(sample_file: Path) -> None:
    with open_cutouts(sample_file) as cutouts:
        rows = cutouts.rows("train")
        all_batches = batches(cutouts, rows, seed=1)
        drawn = [all_batches[i] for i in range(len(all_batches))]
        z_spec = np.concatenate([targets[:, 0] for _, targets in drawn])
        brightness = np.concatenate([inputs["images"].sum(axis=(1, 2, 3)) for inputs, _ in drawn])
        expected = cutouts.images[:][rows].sum(axis=(1, 2, 3))
    assert sorted(z_spec) == sorted(cutouts.columns["z_spec"][rows].astype(np.float32))
    by_redshift = np.argsort(z_spec), np.argsort(cutouts.columns["z_spec"][rows])
    np.testing.assert_allclose(brightness[by_redshift[0]], expected[by_redshift[1]], rtol=1e-3)


def test_batches_without_seed_keep_order_and_images(sample_file: Path) -> None:
    with open_cutouts(sample_file) as cutouts:
        rows = cutouts.rows("validation")
        inputs, targets = batches(cutouts, rows)[0]
        assert np.array_equal(inputs["images"], cutouts.images[rows][:32])
        assert np.array_equal(targets[:, 0], cutouts.columns["z_spec"][rows].astype(np.float32)[:32])


def test_epochs_differ_and_are_reproducible(sample_file: Path) -> None:
    with open_cutouts(sample_file) as cutouts:
        rows = cutouts.rows("train")
        running = batches(cutouts, rows, seed=4)
        first = running[0]
        running.on_epoch_end()
        second = running[0]
        resumed = batches(cutouts, rows, seed=4, first_epoch=1)[0]
    assert not np.array_equal(first[1], second[1])
    assert np.array_equal(second[1], resumed[1])
    assert np.array_equal(second[0]["images"], resumed[0]["images"])


def test_batch_reads_only_its_rows(sample_file: Path) -> None:
    """A set larger than memory can be trained on."""

    class Watched:
        def __init__(self, images) -> None:
            self.images, self.shape, self.read = images, images.shape, []

        def __getitem__(self, row) -> np.ndarray:
            self.read.append(int(row))
            return self.images[row]

    with open_cutouts(sample_file) as cutouts:
        watched, rows = Watched(cutouts.images), cutouts.rows("train")
        all_batches = batches(type(cutouts)(watched, cutouts.columns), rows, seed=0)
        assert watched.read == []
        all_batches[0]
        assert len(watched.read) == 32
        for i in range(1, len(all_batches)):
            all_batches[i]
    assert sorted(watched.read) == rows.tolist()


def test_turns_and_flips_are_the_symmetries_of_the_square() -> None:
    image = np.arange(9.0).reshape(1, 3, 3, 1)
    turned = turn_and_flip(np.repeat(image, 400, axis=0), np.random.default_rng(0))
    assert len({image.tobytes() for image in turned}) == 8
    assert (turned.sum(axis=(1, 2, 3)) == 36).all()
    assert (turned[:, 1, 1, 0] == 4).all()
