import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.images import SDSS_IMAGES, ImageSpec
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


def test_inception_is_the_documents_network() -> None:
    model = architectures.build("inception", SDSS_IMAGES, SDSS_GRID, statistics())
    assert model.count_params() == 27_841_856
    assert model.output_shape == (None, 180)
    assert not architectures.takes_ebv(model)


def test_pasquet_is_the_papers_network() -> None:
    model = architectures.build("pasquet", SDSS_IMAGES, SDSS_GRID, statistics())
    # 1,781,668 in the convolutions, 2,628 slopes, 24,412,304 + 1,202,312 + 197,460 in the dense layers.
    assert model.count_params() == 27_596_372
    assert architectures.takes_ebv(model)


def test_compact_is_small_and_takes_reddening() -> None:
    model = architectures.build("compact", SDSS_IMAGES, SDSS_GRID, statistics())
    assert model.count_params() < 2_000_000
    assert architectures.takes_ebv(model)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
@pytest.mark.parametrize(
    ("spec", "grid"),
    [(SDSS_IMAGES, SDSS_GRID), (ImageSpec(size=23, bands="griz"), RedshiftGrid(0.6, 90))],
    ids=["sdss", "griz"],
)
def test_any_survey_gives_probabilities(name: str, spec: ImageSpec, grid: RedshiftGrid) -> None:
    model = architectures.build(name, spec, grid, statistics(len(spec.bands)))
    pdfs = predict(model, spec)
    assert pdfs.shape == (4, grid.n_bins)
    np.testing.assert_allclose(pdfs.sum(axis=1), 1.0, rtol=1e-5)
    assert (pdfs >= 0).all()


def test_one_seed_gives_one_network() -> None:
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        weights.append(architectures.build("compact", SDSS_IMAGES, SDSS_GRID, statistics()).get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_the_saved_model_needs_keras_alone(name: str, tmp_path: Path) -> None:
    model = architectures.build(name, SDSS_IMAGES, SDSS_GRID, statistics())
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "inputs.npz", **inputs(SDSS_IMAGES))
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("photoz", "training", "service", "photoz_client"):
            raise ImportError(f"{name} is none of Keras's business")
sys.meta_path.insert(0, Absent())
import keras, numpy as np
model = keras.models.load_model("model.keras", safe_mode=True)
inputs = np.load("inputs.npz")
np.save("pdfs.npy", model.predict_on_batch({t.name: inputs[t.name] for t in model.inputs}))
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, env={"PATH": ""}, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "pdfs.npy"), predict(model, SDSS_IMAGES), rtol=1e-5, atol=1e-7)
