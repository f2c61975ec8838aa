import numpy as np
import pytest
from toys import GRIZ, galaxies, toy_network

from photoz.bundle import ModelBundle
from photoz.errors import InvalidBundle, InvalidImages
from service.engines import CHUNK, KerasEngine, OpenVinoEngine, load_engine


@pytest.fixture(scope="module")
def shipped(bundle_path):
    return ModelBundle.load(bundle_path)


def test_a_bundle_with_a_compiled_network_is_served_by_openvino(shipped):
    assert isinstance(load_engine(shipped), OpenVinoEngine)


def test_pdfs_have_the_bins_of_the_card_and_sum_to_one(shipped, images):
    pdfs = load_engine(shipped, threads=1).predict_pdfs(images, np.full(len(images), 0.03, np.float32))
    assert pdfs.shape == (len(images), shipped.card.grid.n_bins)
    assert pdfs.dtype == np.float64
    np.testing.assert_allclose(pdfs.sum(axis=1), 1.0, atol=1e-12)


def test_chunks_do_not_change_the_answer(make_toy_bundle):
    engine = load_engine(make_toy_bundle(takes_ebv=True))
    many, ebv = galaxies(GRIZ, 2 * CHUNK + 3), np.linspace(0, 0.5, 2 * CHUNK + 3, dtype=np.float32)
    one_by_one = [engine.predict_pdfs(many[i : i + 1], ebv[i : i + 1])[0] for i in (0, CHUNK - 1, CHUNK, 2 * CHUNK + 2)]
    together = engine.predict_pdfs(many, ebv)[[0, CHUNK - 1, CHUNK, 2 * CHUNK + 2]]
    np.testing.assert_allclose(together, one_by_one, atol=1e-7)


def test_reddening_reaches_a_network_that_takes_it_and_only_that(make_toy_bundle):
    pictures, low, high = galaxies(GRIZ, 1), np.zeros(1, np.float32), np.ones(1, np.float32)
    with_ebv, without = load_engine(make_toy_bundle(takes_ebv=True)), load_engine(make_toy_bundle())
    assert np.abs(with_ebv.predict_pdfs(pictures, low) - with_ebv.predict_pdfs(pictures, high)).max() > 1e-4
    np.testing.assert_array_equal(without.predict_pdfs(pictures, low), without.predict_pdfs(pictures, high))


@pytest.mark.parametrize(
    ("size", "n_bands", "n_bins", "takes_ebv"),
    [(23, 4, 91, False), (23, 5, 90, False), (24, 4, 90, False), (23, 4, 90, True)],
    ids=["bins", "bands", "size", "inputs"],
)
def test_a_network_that_is_not_the_one_of_the_card_is_refused(make_toy_bundle, size, n_bands, n_bins, takes_ebv):
    bundle = make_toy_bundle(network=toy_network(size, n_bands, n_bins, takes_ebv))
    with pytest.raises(InvalidBundle, match="its card says"):
        load_engine(bundle)


def test_an_engine_that_the_bundle_does_not_have_is_refused(make_toy_bundle):
    bundle = make_toy_bundle()
    bare = ModelBundle(bundle.path, bundle.card.model_copy(update={"engines": ()}))
    with pytest.raises(InvalidBundle, match="no OpenVINO engine"):
        load_engine(bare, "openvino")


def test_pixels_beyond_all_measure_are_the_callers_mistake(make_toy_bundle):
    pictures = galaxies(GRIZ, 3)
    pictures[1] = 3e38
    with pytest.raises(InvalidImages, match="cutout 1"):
        load_engine(make_toy_bundle()).predict_pdfs(pictures, np.zeros(3, np.float32))


@pytest.mark.slow
def test_keras_and_openvino_give_the_same_redshifts(shipped, images):
    ebv = np.full(len(images), 0.03, np.float32)
    keras_engine = load_engine(shipped, "keras")
    assert isinstance(keras_engine, KerasEngine)
    z_mean = [e.predict_pdfs(images, ebv) @ shipped.card.grid.centres for e in (keras_engine, load_engine(shipped))]
    np.testing.assert_allclose(z_mean[0], z_mean[1], atol=1e-4)


def test_a_keras_file_that_is_none_is_refused(make_toy_bundle):
    with pytest.raises(InvalidBundle, match="Keras cannot read"):
        load_engine(make_toy_bundle(), "keras")
