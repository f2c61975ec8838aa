"""Splits and selections of cutouts, and batches of them with random changes and defects."""

from dataclasses import replace

import numpy as np
import pytest

from photoz.errors import InvalidDataset
from photoz.images import UNKNOWN_EBV
from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Cutouts
from tests.training.small import SPEC
from training import defects, recipes
from training.batches import Augmentation, Batches, turn_and_flip
from training.pixel_statistics import median_ebv, pixel_statistics, sky_noise
from training.splits import random_split, split_by_object, with_split

M, NOISE = 200, np.full(4, 0.05)
NAMES = np.array([f"galaxy {row}" for row in range(M)])


def labelled(**columns):
    n = len(next(iter(columns.values())))
    return Cutouts(np.zeros((n, 8, 8, 1), np.float32), columns)


def sizes(split):
    return [int((split == name).sum()) for name in (TRAIN, VALIDATION, TEST)]


def test_galaxies_are_split_by_object_or_as_in_the_file_and_selected():
    assert np.array_equal(split_by_object(NAMES[::-1]), random_split(M, M // 5))
    assert sizes(random_split(M, 40, 60)) == [100, 60, 40]
    assert np.flatnonzero(random_split(20, 4) == TEST).tolist() == sorted(np.random.default_rng(0).permutation(20)[16:])
    thrice = labelled(object_id=np.tile(NAMES, 3), z_spec=np.full(3 * M, 0.1))
    for shares, expected in (("", [144, 16, 40]), ("0.5,0.2,0.3", [100, 40, 60])):
        split = with_split(thrice, "", shares).column("split").reshape(3, M)
        assert (split == split[0]).all()
        assert sizes(split[0]) == expected
    near = np.arange(M) < 90
    galaxies = labelled(z_spec=np.where(near, 0.05, 0.1), split=random_split(M, 40))
    chosen = with_split(galaxies, "z_spec<0.1").column("split")
    assert chosen.tolist() == np.where(near, galaxies.column("split"), "").tolist()
    assert with_split(galaxies).column("split").tolist() == galaxies.column("split").tolist()
    assert sizes(with_split(galaxies, "", "1,1,2").column("split")) == [50, 50, 100]
    preset, faint = recipes.PRESETS["pasquet2019"], np.arange(60) % 10 == 9
    galaxies = labelled(z_spec=np.full(60, 0.1), dered_petro_r=17.0 + 0.9 * faint)
    split = with_split(galaxies, preset.select, preset.shares).column("split")
    assert (split[faint] == "").all()
    assert sizes(split) == [41, 2, 11]  # 54 times 0.761, 0.039 and 0.200
    galaxies = labelled(magnitudes=np.full((M, 5), 18.0), object_id=NAMES, z_spec=np.full(M, 0.1))
    for conditions, message in {
        "magnitudes<20": r"'magnitudes', of shape \(200, 5\) and type float64: expected one number",
        "object_id<20": "cannot select by 'object_id'",
        "primtarget>=64": "'primtarget'; there are .*magnitudes",
        "z_spec>5": "none of 200 galaxies meets z_spec>5",
    }.items():
        with pytest.raises(InvalidDataset, match=message):
            with_split(galaxies, conditions)


def batches(cutouts, rows, seed=None, first_epoch=0):
    targets = cutouts.column("z_spec")[rows].astype(np.float32)[:, np.newaxis]
    options = {"batch_size": 16, "with_ebv": True, "ebv_default": 0.03, "first_epoch": first_epoch}
    changes = None if seed is None else Augmentation(seed, NOISE)
    return Batches(cutouts, rows, SPEC, targets, **options, augmentation=changes)


def test_epochs_have_each_galaxy_once_in_another_order_and_batches_read_only_their_rows(cutouts):
    class Watched:
        def __init__(self, images):
            self.images, self.shape, self.read = images, images.shape, []

        def __getitem__(self, row):
            self.read.append(int(row))
            return self.images[row]

    watched, rows = Watched(cutouts.images), cutouts.rows("train")
    all_batches = batches(type(cutouts)(watched, cutouts.columns), rows, seed=1)
    assert watched.read == []
    drawn = [all_batches[0]]
    assert len(watched.read) == 16
    drawn += [all_batches[i] for i in range(1, len(all_batches))]
    assert sorted(watched.read) == rows.tolist()
    assert [len(targets) for _, targets in drawn[:-1]] == [16] * (len(rows) // 16)
    z_spec = np.concatenate([targets[:, 0] for _, targets in drawn])
    brightness = np.concatenate([inputs["images"].sum(axis=(1, 2, 3)) for inputs, _ in drawn])
    expected = cutouts.columns["z_spec"][rows].astype(np.float32)
    assert sorted(z_spec) == sorted(expected)
    in_order = cutouts.images[:][rows].sum(axis=(1, 2, 3))[np.argsort(expected)]
    np.testing.assert_allclose(brightness[np.argsort(z_spec)], in_order, rtol=1e-3)
    inputs, targets = batches(cutouts, rows)[1]
    assert np.array_equal(inputs["images"], cutouts.images[rows[16:32]])
    assert np.array_equal(inputs["ebv"][:, 0], cutouts.columns["ebv"][rows[16:32]].astype(np.float32))
    assert np.array_equal(targets[:, 0], cutouts.columns["z_spec"][rows[16:32]].astype(np.float32))
    running = batches(cutouts, rows, seed=4)
    first = running[0]
    running.on_epoch_end()
    second, resumed = running[0], batches(cutouts, rows, seed=4, first_epoch=1)[0]
    assert not np.array_equal(first[1], second[1])
    assert np.array_equal(second[1], resumed[1])
    assert np.array_equal(second[0]["images"], resumed[0]["images"])


def test_cutouts_are_turned_and_flipped_and_lose_their_reddening_or_get_defects_at_random():
    images, ebv = np.ones((1000, 16, 16, 4), np.float32), np.full(1000, 0.02, np.float32)
    changed, dropped = Augmentation(0, NOISE, defects=0.3, unknown_ebv=0.1).apply(images, ebv, (0, 0))
    assert (images == 1.0).all()
    assert (changed != 1.0).any(axis=(1, 2, 3)).mean() == pytest.approx(0.25, abs=0.05)  # moves change nothing here
    assert set(dropped) == {np.float32(0.02), np.float32(UNKNOWN_EBV)}
    assert (dropped < 0).mean() == pytest.approx(0.1, abs=0.03)
    image = np.arange(9.0).reshape(1, 3, 3, 1)
    turned = turn_and_flip(np.repeat(image, 400, axis=0), np.random.default_rng(0))
    assert len({image.tobytes() for image in turned}) == 8
    assert (turned.sum(axis=(1, 2, 3)) == 36).all()
    assert (turned[:, 1, 1, 0] == 4).all()


def test_statistics_of_the_pixels(cutouts):
    found = pixel_statistics(cutouts, np.arange(0, 80, 2), SPEC)
    assert found.ebv == np.median(cutouts.column("ebv")[::2])
    np.testing.assert_allclose(found.noise, [0.0573862, 0.116616, 0.172661, 0.303995], rtol=1e-3)
    np.testing.assert_allclose(found.magnitude_mean, [-5.12446, -5.28904, -5.31992, -5.01278], rtol=1e-3)
    np.testing.assert_allclose(found.magnitude_std, [1.06911, 0.914317, 0.861273, 0.854413], rtol=1e-3)
    np.testing.assert_allclose(found.colour_mean, [0.164581, 0.030876, -0.30714], rtol=1e-3)
    np.testing.assert_allclose(found.colour_std, [0.25775, 0.115887, 0.100444], rtol=1e-3)
    unknown = replace(cutouts, columns={"ebv": np.where(np.arange(80) < 2, 0.1, np.nan)})
    assert [median_ebv(unknown, np.arange(3)), median_ebv(unknown, np.arange(5, 9))] == [0.1, 0.0]
    assert sky_noise(np.ones((2, 8, 8, 1))) == [1.0]


def test_each_defect_changes_its_pixels_and_a_seed_always_the_same():
    image = np.zeros((32, 32, 3), np.float32)
    defects.leave_sky_in(image, np.array([1.0, 2.0, 3.0]), np.array([[0.5, 0.0, 0.0], [0.0, 0.0, 0.25]]))
    np.testing.assert_allclose(image.mean(axis=(0, 1)), [1.0, 2.0, 3.0], rtol=1e-5)
    np.testing.assert_allclose(image[-1, 5, :2], [1.5, 2.0])
    np.testing.assert_allclose(image[7, [0, -1], 2], [2.75, 3.25])
    image = np.zeros((32, 32, 3), np.float32)
    defects.add_hits(image, 1, np.array([3.2, 2.9, 40.0]), np.array([4.0, 4.1, 5.0]), 7.0)
    assert {tuple(index): image[tuple(index)] for index in np.argwhere(image)} == {(3, 4, 1): 7.0, (31, 5, 1): 7.0}
    image = np.ones((32, 32, 3), np.float32)
    defects.kill_column(image, 2, 9)
    assert not image[:, 9, 2].any()
    assert image.sum() == image.size - 32
    y, x = np.indices((32, 32)) - 15.5
    for angle in (0.0, np.pi / 2, 0.4):
        image = np.zeros((32, 32, 3), np.float32)
        defects.draw_trail(image, 0, angle, 6.0, 2.0)
        across = y * np.cos(angle) + x * np.sin(angle)
        assert (image[..., 0] * across).sum() / image[..., 0].sum() == pytest.approx(6.0, abs=0.05)
        assert 1.8 < image.max() <= 2.0
        assert not image[..., 1:].any()
    noise = np.array([0.1, 0.2, 0.3])
    clean = np.tile(np.indices((32, 32)).sum(axis=0)[..., np.newaxis].astype(np.float32), (40, 1, 1, 3))
    images, spoilt = clean.copy(), clean.copy()
    defects.spoil(images, noise, 1.0, np.random.default_rng(1))
    expected = [0.04107124, 0.05805139, 0.004664922, 0.08594257, 3.753906, 0.06943997, 0.2801594, 3.753906]
    expected += [0.3697917, 0.04369678, 0.296875, 0.007763015, 0.02180286, 0.1424267]
    changes = np.abs(images - clean).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(changes[:14], expected, rtol=1e-4)
    assert changes.sum() == pytest.approx(31.00249, rel=1e-5)
    defects.spoil(spoilt, noise, 0.4, np.random.default_rng(0))
    assert (spoilt != clean).any(axis=(1, 2, 3)).sum() == 14
