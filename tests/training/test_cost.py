import keras
import pytest
from keras import layers

from photoz.grid import SDSS_GRID
from photoz.images import SDSS_IMAGES
from training.architectures.inception import build_inception
from training.cost import forward_gflop


def test_flop_count_agrees_with_count_by_hand() -> None:
    images = keras.Input((8, 8, 5), name="images")
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(images)
    model = keras.Model({"images": images}, layers.Dense(10, use_bias=False)(layers.Flatten()(x)))
    by_hand = 2 * (8 * 8 * 16 * 3 * 3 * 5 + 8 * 8 * 16 * 10)
    assert forward_gflop(model) * 1e9 == pytest.approx(by_hand, rel=0.001)


def test_inception_costs_one_and_a_half_gflop() -> None:
    assert forward_gflop(build_inception(SDSS_IMAGES, SDSS_GRID)) == pytest.approx(1.5, abs=0.1)
