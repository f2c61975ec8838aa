"""From a list to a bundle: a model trained on cutouts out of frames, and one on the same galaxies drawn as cutouts."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]")

from photoz.io.reader import open_cutouts
from tests.e2e.rendered_frames import APERTURES, compare, cut_out, draw, train_both
from training.catalogue import read_kcorrect
from training.splits import random_split

N = 816  # four fields


def mean_cutout(path):
    with open_cutouts(path) as cutouts:
        return cutouts.images[:].mean(axis=0)


@pytest.mark.slow
def test_redshifts_are_as_good_out_of_frames(tmp_path):
    draw(replace(read_kcorrect().head(N), split=random_split(N, N // 2)), tmp_path)
    cut_out(tmp_path)
    # A quarter of a pixel, or a twentieth of the flux, would differ more; retrained models do not notice either.
    drawn, cut = mean_cutout(tmp_path / "drawn.h5"), mean_cutout(tmp_path / "cut.h5")
    assert (np.abs(cut - drawn).max(axis=(0, 1)) < 0.05 * drawn.max(axis=(0, 1))).all()
    of_drawn, of_cut = train_both(tmp_path, "--epochs", "12", "--batch-size", "16")
    sigma_drawn, sigma_cut = (model.card.test.scores[APERTURES]["sigma_mad"].value for model in (of_drawn, of_cut))
    assert sigma_cut < 1.1 * sigma_drawn
    assert compare(tmp_path, of_drawn, of_cut)["ratios"]["sigma_mad"]["value"] < 1.1
    assert compare(tmp_path, of_drawn, of_drawn)["ratios"]["sigma_mad"]["value"] < 1.1
