import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.images import SDSS_IMAGES, UNKNOWN_EBV, ImageSpec
from training import architectures
from training.pixel_statistics import PixelStatistics


def statistics(n_bands: int = 5) -> PixelStatistics:
    ones = np.ones(n_bands)
    return PixelStatistics(0.05 * ones, -8.0 * ones, ones, 0.5 * ones[1:], 0.2 * ones[1:])


def inputs(spec: ImageSpec, n: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "images": rng.normal(0.1, 0.1, (n, *spec.shape)).astype(np.float32),
        "ebv": rng.uniform(0, 0.1, (n, 1)).astype(np.float32),
    }


def predict(model: keras.Model, spec: ImageSpec) -> np.ndarray:
    return model.predict_on_batch({tensor.name: inputs(spec)[tensor.name] for tensor in model.inputs})


@pytest.mark.parametrize(
    ("name", "parameters", "takes_ebv"),
    [
        ("inception", 27_841_856, False),
        # 1,781,668 in the convolutions, 2,628 slopes, 24,412,304 + 1,202,312 + 197,460 in the dense layers.
        ("pasquet", 27_596_372, True),
        ("compact", 85_688, True),
    ],
)
def test_architectures_have_known_size_and_inputs(name: str, parameters: int, takes_ebv: bool) -> None:
    model = architectures.build(name, SDSS_IMAGES, SDSS_GRID, statistics())
    assert model.count_params() == parameters
    assert model.output_shape == (None, 180)
    assert architectures.takes_ebv(model) == takes_ebv


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
@pytest.mark.parametrize(
    ("spec", "grid"),
    [(SDSS_IMAGES, SDSS_GRID), (ImageSpec(size=23, bands="griz"), RedshiftGrid(0.6, 90))],
    ids=["sdss", "griz"],
)
def test_pdfs_are_normalised_for_any_bands_and_grid(name: str, spec: ImageSpec, grid: RedshiftGrid) -> None:
    model = architectures.build(name, spec, grid, statistics(len(spec.bands)))
    pdfs = predict(model, spec)
    assert pdfs.shape == (4, grid.n_bins)
    np.testing.assert_allclose(pdfs.sum(axis=1), 1.0, rtol=1e-5)
    assert (pdfs >= 0).all()


def test_seed_determines_all_initial_weights() -> None:
    weights = []
    for seed in (3, 3, 4):
        keras.utils.set_random_seed(seed)
        weights.append(architectures.build("compact", SDSS_IMAGES, SDSS_GRID, statistics()).get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*weights[:2], strict=True))
    random = [not np.isin(a, (0.0, 1.0, -2.0)).all() for a in weights[0]]  # neither biases nor constants
    assert [not np.array_equal(a, b) for a, b in zip(*weights[1:], strict=True)] == random


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_saved_model_loads_without_this_project(name: str, tmp_path: Path) -> None:
    model = architectures.build(name, SDSS_IMAGES, SDSS_GRID, statistics())
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "inputs.npz", **inputs(SDSS_IMAGES))
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("photoz", "training", "service", "photoz_client"):
            raise ImportError(f"{name} is imported")
sys.meta_path.insert(0, Absent())
import keras, numpy as np
model = keras.models.load_model("model.keras", safe_mode=True)
inputs = np.load("inputs.npz")
np.save("pdfs.npy", model.predict_on_batch({t.name: inputs[t.name] for t in model.inputs}))
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, env={"PATH": ""}, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "pdfs.npy"), predict(model, SDSS_IMAGES), rtol=1e-5, atol=1e-7)


def test_compact_takes_an_unknown_reddening() -> None:
    model = architectures.build("compact", SDSS_IMAGES, SDSS_GRID, replace(statistics(), ebv=0.05))
    images, ebv = inputs(SDSS_IMAGES).values()
    unknown = model.predict_on_batch({"images": images, "ebv": np.full_like(ebv, UNKNOWN_EBV)})
    assert np.isfinite(unknown).all()
    features = keras.Model(model.inputs, model.get_layer("features").output)
    as_median = features.predict_on_batch({"images": images, "ebv": np.full_like(ebv, 0.05)})
    as_unknown = features.predict_on_batch({"images": images, "ebv": np.full_like(ebv, UNKNOWN_EBV)})
    np.testing.assert_allclose(as_unknown, as_median, atol=1e-5)  # so that it is not out of distribution
    assert not np.allclose(unknown, model.predict_on_batch({"images": images, "ebv": np.full_like(ebv, 0.05)}))


def test_compact_knows_the_background() -> None:
    """Fluxes of which the background is subtracted depend on it less, even before the map of the sky is trained."""
    model = architectures.build("compact", SDSS_IMAGES, SDSS_GRID, statistics())
    layer = model.get_layer("features")
    features = keras.Model(model.inputs, layer.output)
    images, ebv = inputs(SDSS_IMAGES).values()
    at_sky = [features.predict_on_batch({"images": images + np.float32(sky), "ebv": ebv}) for sky in (0.0, 0.02)]
    change = np.abs(at_sky[1] - at_sky[0]).mean(axis=0)[:55].reshape(11, 5).mean(axis=1)
    assert (change[3:6] < 0.5 * change[:3]).all()
