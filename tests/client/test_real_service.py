"""The SDK on the real service."""

import asyncio
import re

import h5py
import httpx
import numpy as np
import pytest

from photoz.errors import InvalidInput
from photoz.estimates import COLUMNS
from photoz_client import (
    AsyncPhotozClient,
    BadInput,
    Flag,
    PhotozClient,
    PredictionIncomplete,
    RequestRefused,
    TooLargeForService,
)
from photoz_client._inputs import ROWS_PER_REQUEST

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def client(service_url):
    with PhotozClient(service_url, timeout=120.0) as client:
        client.wait_until_ready()
        yield client


@pytest.fixture(scope="module")
def images(card):
    """5 cutouts of an object of some brightness on a noisy sky."""
    rng = np.random.default_rng(1)
    images = rng.normal(0.0, 0.05, (5, *card.image.shape))
    centre = slice(card.image.size // 2 - 3, card.image.size // 2 + 3)
    images[:, centre, centre] += rng.uniform(1.0, 5.0, (5, 1, 1, len(card.image.bands)))
    return images.astype(np.float32)


def test_predict_returns_every_column_and_pdfs_on_request(client, card, images):
    prediction = client.predict(images, ebv=0.03, object_id=[11, 12, 13, 14, 15], pdf=True)
    assert client.model() == card
    assert prediction.model == f"{card.name} {card.version}"
    assert {name: values.shape[0] for name, values in prediction.columns()} == dict.fromkeys((*COLUMNS, "pdf"), 5)
    assert prediction.object_id.tolist() == ["11", "12", "13", "14", "15"]
    np.testing.assert_allclose(prediction.pdf.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(prediction.pdf @ card.grid.centres, prediction.z_mean, atol=1e-6)
    assert prediction.pdf.dtype == np.float32
    assert client.predict(images[0]).pdf is None


def test_predict_returns_what_the_json_endpoint_returns(client, service_url, images):
    body = {"images": images[:2].tolist(), "ebv": 0.03}
    by_json = httpx.post(f"{service_url}/predict", json=body, timeout=120.0).json()
    prediction = client.predict(images[:2], ebv=0.03)
    assert by_json["model"] == prediction.model
    assert by_json["object_id"] == prediction.object_id.tolist()
    np.testing.assert_allclose(by_json["z_mean"], prediction.z_mean, atol=1e-6)
    assert by_json["flags"] == prediction.flags.tolist()


def test_flags_mark_masked_pixels_and_missing_ebv(client, images):
    masked = images.copy()
    masked[1, 0, 0, 0] = np.nan
    prediction = client.predict(masked, ebv=[0.03, 0.03, np.nan, 0.03, 0.03])
    assert prediction.has(Flag.MASKED_PIXELS).tolist() == [False, True, False, False, False]
    assert prediction.has(Flag.EBV_ASSUMED).tolist() == [False, False, True, False, False]


def test_many_cutouts_from_memory_and_from_disk(client, images, tmp_path):
    n = ROWS_PER_REQUEST + 3
    many = np.resize(images, (n, *images.shape[1:]))
    np.save(tmp_path / "many.npy", many)
    prediction = client.predict(many, ebv=0.03)
    assert prediction.object_id.tolist() == [str(i) for i in range(n)]
    np.testing.assert_allclose(prediction.z_mean, np.resize(client.predict(images, ebv=0.03).z_mean, n), atol=1e-6)
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for on_disk in (np.load(tmp_path / "many.npy", mmap_mode="r"), file.create_dataset("images", data=many)):
            np.testing.assert_array_equal(client.predict(on_disk, ebv=0.03).z_mean, prediction.z_mean)


def test_bad_images_are_refused_with_the_message_of_the_service(client, card, images):
    few = images.copy()
    few[3] = np.nan
    for bad, message in (
        (images[:, 1:], re.escape(f"expected images of shape {('n', *card.image.shape)}".replace("'", ""))),
        (np.moveaxis(images, -1, 1), "moveaxis"),
        (images[:0], "at least one cutout"),
        (few, "cutout 3 .*finite pixel"),
    ):
        with pytest.raises(BadInput, match=message):
            client.predict(bad)


def test_cutouts_without_a_finite_pixel_among_many_do_not_affect_the_others(client, images):
    n, empty = 2 * ROWS_PER_REQUEST + 9, [3, ROWS_PER_REQUEST, ROWS_PER_REQUEST + 7, 2 * ROWS_PER_REQUEST + 8]
    many = np.resize(images, (n, *images.shape[1:]))
    expected = client.predict(many, ebv=0.03).z_mean
    many[empty] = np.nan
    with pytest.raises(PredictionIncomplete, match=f"^4 of {n} cutouts .*; cutout 3: no finite pixel") as caught:
        client.predict(many, ebv=0.03)
    assert caught.value.failed_rows.tolist() == empty
    np.testing.assert_allclose(caught.value.prediction.z_mean, np.delete(expected, empty), atol=1e-6)


@pytest.fixture(scope="module")
def z_spec(card, images):
    return np.linspace(0.1, 0.9, len(images)) * card.grid.z_max


def test_evaluate_gives_the_same_scores_for_cutouts_and_their_pdfs(client, images, z_spec):
    by_images = client.evaluate(z_spec, images=images, ebv=0.03)
    by_pdfs = client.evaluate(z_spec, pdfs=client.predict(images, ebv=0.03, pdf=True).pdf)
    assert by_images.n_galaxies == by_pdfs.n_galaxies == len(z_spec)
    assert set(by_images.scores) >= {"bias", "sigma_mad", "outlier_fraction", "crps", "pit_ks"}
    for name, score in by_images.scores.items():
        assert score.value == pytest.approx(by_pdfs.scores[name].value, abs=1e-6)
        assert score.error == pytest.approx(by_pdfs.scores[name].error, abs=1e-6)


def test_evaluate_takes_many_cutouts_and_names_those_off_the_grid(client, images, z_spec):
    n = ROWS_PER_REQUEST + 5
    many, many_z = np.resize(images, (n, *images.shape[1:])), np.resize(z_spec, n)
    assert client.evaluate(many_z, images=many, ebv=0.03).n_galaxies == n
    beyond = z_spec.copy()
    beyond[[0, 3]] = 7.0, np.nan
    evaluation = client.evaluate(beyond, images=images, object_id=list("abcde"))
    assert evaluation.n_galaxies == 3
    assert evaluation.dropped == ["a", "d"]


def test_reports_are_pages_and_plots_are_images(client, images, z_spec):
    pdfs = client.predict(images, ebv=0.03, pdf=True).pdf
    report = client.evaluate_report(z_spec, pdfs=pdfs, magnitudes=np.linspace(15, 17, len(z_spec)))
    assert report.lstrip().lower().startswith("<!doctype html>")
    assert "r [mag]" in report
    assert client.evaluate_plot(z_spec, pdfs=pdfs).startswith(b"\x89PNG")
    few, more = (client.evaluate_plot(z_spec, pdfs=pdfs, plot="pdfs", format="svg", num_images=n) for n in (1, 4))
    assert b"<svg" in few
    assert len(few) < len(more)


def test_the_asyncio_client_gets_the_same(client, service_url, images, z_spec):
    async def ask():
        async with AsyncPhotozClient(service_url, timeout=120.0) as other:
            await other.wait_until_ready()
            pdfs = (await other.predict(images, pdf=True)).pdf
            parts = [rows.tolist() async for rows, _ in other.predict_parts(images)]
            plot, page = await other.evaluate_plot(z_spec, pdfs=pdfs), await other.evaluate_report(z_spec, pdfs=pdfs)
            return repr(other), await other.model(), pdfs, parts, await other.evaluate(z_spec, pdfs=pdfs), plot, page

    name, card, pdfs, parts, evaluation, plot, page = asyncio.run(ask())
    assert (name, card, parts) == (f"AsyncPhotozClient({service_url!r})", client.model(), [[0, 1, 2, 3, 4]])
    np.testing.assert_allclose(pdfs, client.predict(images, pdf=True).pdf, atol=1e-6)
    assert evaluation == client.evaluate(z_spec, pdfs=pdfs)
    assert plot.startswith(b"\x89PNG")
    assert page.lstrip().lower().startswith("<!doctype html>")


def test_unusable_requests_are_refused_with_the_message_of_the_service(client, service_url, images, z_spec):
    pdfs = client.predict(images, pdf=True).pdf
    for galaxies in ({}, {"images": images, "pdfs": pdfs}):
        with pytest.raises(InvalidInput, match="images.* pdfs"):
            client.evaluate(z_spec, **galaxies)
    with pytest.raises(BadInput, match=r"5 .*, one for each galaxy, got shape \(4,\)"):
        client.evaluate(z_spec[:4], images=images)
    with pytest.raises(BadInput, match="scatter"):
        client.evaluate_plot(z_spec, pdfs=pdfs, plot="sculpture")
    with pytest.raises(TooLargeForService, match="galaxies in one request, got 1,000,000") as caught:
        client.evaluate(np.full(1_000_000, 0.1), pdfs=np.ones((1_000_000, 1)))
    assert caught.value.status == 413
    with PhotozClient(f"{service_url}/elsewhere") as lost, pytest.raises(RequestRefused, match="/elsewhere/model"):
        lost.model()
