"""The requests of the client, decoded with the core's own readers; evaluations; and the SDK on the real service."""

import asyncio
import io
import re
import tracemalloc

import httpx
import numpy as np
import pytest

from photoz.errors import InvalidEbv, InvalidImages, InvalidInput
from photoz.estimates import COLUMNS
from photoz.io.npz import read_arrays
from photoz.protocol.open_inference import HEADER_LENGTH, RequestedOutput
from photoz_client import AsyncPhotozClient, BadInput, Flag, PhotozClient, RequestRefused, TooLargeForService, _requests
from photoz_client._inputs import BYTES_PER_REQUEST, ROWS_PER_REQUEST, PredictInputs, rows_per_request
from tests.client import answers
from tests.client.answers import EVALUATION, EVALUATIONS, mock_client, naming, numbered_cutouts
from tests.client.server import TIMEOUT
from tests.toys import galaxies

ESTIMATES = [name for name in COLUMNS if name != "object_id"]


def _requests_for(images, ebv=None, object_id=None, pdf=False):
    inputs = PredictInputs.of(images, ebv, object_id)
    return (_requests.predict_request(inputs.read(rows), "photoz", pdf, rows.start) for rows in inputs.parts())


def _sent(request):
    return {name: tensor.array for name, tensor in answers.decode(request).inputs.items()}


def _images(n, size=8, bands=2, dtype=np.float32):
    return np.arange(n * size * size * bands).reshape(n, size, size, bands).astype(dtype)


@pytest.mark.parametrize(("pdf", "outputs"), [(False, ESTIMATES), (True, [*ESTIMATES, "pdf"])])
def test_predict_request_holds_binary_tensors_without_names(pdf, outputs):
    (request,) = _requests_for(_images(3), ebv=[0.1, 0.2, 0.3], object_id=["a", "b", "c"], pdf=pdf)
    assert (request.method, request.path, request.params) == ("POST", answers.INFER_PATH, {})
    assert answers.decode(request).outputs == tuple(RequestedOutput(name, binary=True) for name in outputs)
    assert request.headers.keys() == {"Accept", "Content-Type", HEADER_LENGTH}
    assert request.headers["Accept"] == request.headers["Content-Type"] == answers.OCTETS
    sent = _sent(request)
    assert sorted(sent) == ["ebv", "images"]
    np.testing.assert_array_equal(sent["images"], _images(3))
    np.testing.assert_array_equal(sent["ebv"], np.float32([0.1, 0.2, 0.3]))
    assert _requests.predict_request({"images": _images(1)}, "a/b c?").path == "/v2/models/a%2Fb%20c%3F/infer"
    assert int(request.headers[HEADER_LENGTH]) % 8 == 0  # aligned, so that numpy can use the pixels without a copy


def test_many_cutouts_are_sent_in_parts_that_make_up_the_whole_and_stay_below_the_limit_of_bytes():
    n = 2 * ROWS_PER_REQUEST + 1
    images, ebv = _images(n, size=1), np.linspace(0.0, 1.0, n)
    requests = list(_requests_for(images, ebv))
    sent = [_sent(request) for request in requests]
    assert [request.first_row for request in requests] == [0, 256, 512]
    assert [len(part["images"]) for part in sent] == [256, 256, 1]
    np.testing.assert_array_equal(np.concatenate([part["images"] for part in sent]), images)
    np.testing.assert_array_equal(np.concatenate([part["ebv"] for part in sent]), ebv.astype(np.float32))
    n_rows = rows_per_request((100, 1000, 1000, 3))
    assert n_rows * 12e6 <= BYTES_PER_REQUEST < (n_rows + 1) * 12e6
    assert rows_per_request((9, 10_000, 10_000, 5)) == 1
    assert [PredictInputs.of(_images(n, size=1)).needs_several_requests() for n in (256, 257)] == [False, True]


def test_pixels_keep_their_values_and_types_up_to_float32_and_masked_ones_are_nan():
    for dtype, sent in {"f8": "f4", "i8": "f4", "f4": "f4", ">f4": "f4", "f2": "f2", "i2": "i2", "u1": "u1"}.items():
        images = np.array([[0, 1], [2, 100]], dtype=dtype).reshape(2, 1, 1, 2)
        (request,) = _requests_for(np.asfortranarray(images))
        assert _sent(request)["images"].dtype == np.dtype(sent)
        np.testing.assert_array_equal(_sent(request)["images"], images)
    ebv = np.ma.MaskedArray([0.1, 1e20], mask=[False, True])
    (request,) = _requests_for(np.ma.masked_equal(_images(2, dtype=int), 5), ebv)
    np.testing.assert_array_equal(_sent(request)["images"], np.where(_images(2) == 5, np.nan, _images(2)))
    np.testing.assert_array_equal(_sent(request)["ebv"], np.float32([0.1, np.nan]))
    (request,) = _requests_for(np.full((1, 1, 1, 1), 1e300))  # beyond float32: masked too, without a warning
    assert np.isinf(_sent(request)["images"]).all()


def test_unusable_inputs_are_refused_by_the_client():
    for images, message in (
        (np.zeros((5, 5)), "expected images of shape (n, size, size, n_bands), got (5, 5)"),
        (np.zeros((1, 2, 8, 8, 2)), "got (1, 2, 8, 8, 2)"),
        (np.full((1, 8, 8, 2), None), "expected images of real numbers, got dtype object"),
        (np.zeros((1, 8, 8, 2), complex), "got dtype complex128"),
        ([[1.0, 2.0], [3.0]], "do not form a regular array"),
    ):
        with pytest.raises(InvalidImages, match=re.escape(message)):
            list(_requests_for(images))
    for columns, kind, message in (
        ({"ebv": [0.1] * 4}, InvalidEbv, "or as 3, one for each cutout"),
        ({"ebv": -1.0}, InvalidEbv, "expected 0 <= ebv"),
        ({"object_id": ["a"] * 4}, InvalidInput, "expected 3 object_id"),
        ({"object_id": np.array([b"\xff"] * 3)}, InvalidInput, "expected object_id as text"),
        ({"object_id": ["b" * 256, "a" * 257, "c"]}, InvalidInput, "at most 256 characters, got one of 257"),
    ):
        with pytest.raises(kind, match=message):
            PredictInputs.of(_images(3), **columns)


def test_scalar_ebv_and_default_names_need_no_memory_per_galaxy():
    class HugeSource:
        shape = (100_000_000, 64, 64, 5)

        def __getitem__(self, rows):
            return np.zeros((rows.stop - rows.start, *self.shape[1:]), np.float32)

    tracemalloc.start()
    inputs = PredictInputs.of(HugeSource(), ebv=0.1)
    rows = range(99_999_990, 100_000_000)
    sent, names = inputs.read(rows), inputs.names(np.asarray(rows))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6
    assert (names.tolist(), sent["ebv"].tolist()) == (list(rows), [np.float32(0.1)] * 10)
    names = ["2", "1237648720693755918"]
    for given in (np.array(names, "S"), np.array(names, object), [2, 1237648720693755918]):
        expected = given if isinstance(given, list) else names
        assert PredictInputs.of(_images(2), object_id=given).names(np.array([1, 0])).tolist() == expected[::-1]


def test_pixels_are_halved_only_if_asked_for_and_if_they_fit():
    def sent(images, **options):
        tensors = []

        def handle(request):
            tensors.append(answers.decode(request).inputs["images"])
            return answers.prediction(request)

        mock_client(naming(handle), **options).predict(images)
        return tensors[0]

    def pixels(value, dtype=np.float32):
        return np.full((1, 8, 8, 2), value, dtype)

    images = np.random.default_rng(0).normal(0.1, 0.05, (3, 8, 8, 2)).astype(np.float32)
    images[0, 0, 1:3], images[1, 0, 1] = np.nan, np.inf
    assert (sent(images).datatype, sent(images, wire_dtype="float16").datatype) == ("FP32", "FP16")
    for fits in (images, pixels(65504.0), pixels(0.0), pixels(0.001)):
        np.testing.assert_allclose(sent(fits, wire_dtype="float16").array, fits, rtol=5e-4)
    for dtype in (np.float16, np.int16, np.uint8):  # short types stay as they are
        assert sent(pixels(1, dtype), wire_dtype="float16").array.dtype == dtype
    for pixel, message in (
        (65520.0, "65520 is beyond float16, whose largest number is 65,504"),
        (9e-4, "pixels of 0.0009 on average are too faint for float16, expected 0.001 at least"),
    ):
        with pytest.raises(InvalidImages, match=f"^{message}: use wire_dtype='float32'$"):
            sent(pixels(pixel), wire_dtype="float16")


Z_SPEC, PDFS = np.array([0.1, 1 / 3]), np.full((2, 3), 1 / 3)


@pytest.fixture
def answering(card):
    """A function that answers the requests of mock clients, and records them."""
    behave, requests = answers.with_card(card), []
    answering = naming(lambda request: requests.append(request) or behave(request))
    answering.requests = requests
    return answering


def _evaluated(request):
    return {name: values.tolist() for name, values in read_arrays(io.BytesIO(request.content)).items()}


def test_the_asyncio_client_returns_scores_pages_plots_and_the_card(answering):
    async def ask():
        http = httpx.AsyncClient(transport=httpx.MockTransport(answering))
        async with http, AsyncPhotozClient("http://user:key@service/", http=http) as client:
            assert repr(client) == "AsyncPhotozClient('http://service')"
            await client.wait_until_ready()
            assert await client.model() == mock_client(answering).model()
            answering.requests.clear()
            with pytest.raises(InvalidInput, match="expected z_spec as numbers"):
                await client.evaluate(["far away"])
            return [
                await client.evaluate(Z_SPEC, pdfs=PDFS, object_id=["a", "b"]),
                await client.evaluate_report(Z_SPEC, pdfs=PDFS, magnitudes=[15.0, 16.5]),
                await client.evaluate_plot(Z_SPEC, images=numbered_cutouts(2, 1), ebv=0.03),
                await client.evaluate_plot(Z_SPEC, pdfs=PDFS, plot="pdfs", format="svg", num_images=4, seed=3),
            ]

    page = EVALUATIONS["text/html"].decode()
    assert asyncio.run(ask()) == [EVALUATION, page, EVALUATIONS["image/png"], EVALUATIONS["image/svg+xml"]]
    sent = {(request.method, request.url.path, request.headers["content-type"]) for request in answering.requests}
    assert sent == {("POST", "/evaluate", "application/x-npz")}
    given = {"z_spec": Z_SPEC.tolist(), "pdfs": PDFS.tolist()}
    pixels = {"images": numbered_cutouts(2, 1).tolist(), "ebv": np.float32(0.03)}
    assert [_evaluated(request) for request in answering.requests] == [
        given | {"object_id": ["a", "b"]},
        given | {"magnitudes": [15.0, 16.5]},
        {"z_spec": given["z_spec"]} | pixels,
        given,
    ]
    of_plots = {"plot": "scatter", "num_images": "9", "seed": "0"}, {"plot": "pdfs", "num_images": "4", "seed": "3"}
    assert [dict(request.url.params) for request in answering.requests] == [{}, {}, *of_plots]


def test_images_that_do_not_fit_into_one_request_are_predicted_first(answering, small_requests):
    assert mock_client(answering).evaluate(np.ones(5), images=numbered_cutouts(5), ebv=0.1) == EVALUATION
    *parts, last = answering.requests
    sizes = [answers.decode(part).inputs["ebv"].array.tolist() for part in parts]
    assert sorted(sizes) == [[np.float32(0.1)], [np.float32(0.1)] * 4]
    assert _evaluated(last) == {"z_spec": [1.0] * 5, "ebv": np.float32(0.1), "pdfs": np.eye(5, 180).tolist()}
    mock_client(answering).evaluate(np.ones(5), images=numbered_cutouts(5), pdfs=PDFS)
    assert _evaluated(answering.requests[-1]).keys() == {"z_spec", "images", "pdfs"}  # for the service to refuse


@pytest.fixture(scope="module")
def client(service_url):
    with PhotozClient(service_url, timeout=TIMEOUT) as client:
        yield client


def test_predict_returns_every_column_like_the_json_endpoint(client, service_url, card):
    assert client.model() == card
    images = galaxies(card.image, 6)
    predicted = client.predict(images, ebv=0.03, object_id=[11, 12, 13, 14, 15, 16], pdf=True)
    assert (predicted.model, predicted.grid) == (f"{card.name} {card.version}", card.grid)
    assert {name: values.shape[0] for name, values in predicted.columns()} == dict.fromkeys((*COLUMNS, "pdf"), 6)
    assert (predicted.pdf.shape, predicted.pdf.dtype) == ((6, card.grid.n_bins), np.float32)
    body = {"images": images.tolist(), "ebv": 0.03, "object_id": ["11", "12", "13", "14", "15", "16"]}
    by_json = httpx.post(f"{service_url}/predict", json=body, timeout=TIMEOUT).json()
    assert (by_json["model"], by_json["object_id"]) == (predicted.model, list(map(str, predicted.object_id)))
    for name in COLUMNS[1:]:
        np.testing.assert_allclose(by_json[name], getattr(predicted, name), atol=1e-6, err_msg=name)
    masked = images[0].copy()  # one cutout, without E(B-V)
    masked[0, 0, 0] = np.nan
    one = client.predict(masked)
    assert (one.pdf, one.grid, one.has(Flag.MASKED_PIXELS), one.has(Flag.EBV_ASSUMED)) == (None, None, [True], [True])
    z_spec = [7.0, 0.1, 0.15, 0.2, 0.25, np.nan]
    by_images, by_pdfs = client.evaluate(z_spec, images=images, ebv=0.03), client.evaluate(z_spec, pdfs=predicted.pdf)
    for evaluation in (by_images, by_pdfs):
        assert (evaluation.n_galaxies, evaluation.dropped) == (4, ["0", "5"])
    values = {name: pytest.approx(score.value, abs=1e-6) for name, score in by_pdfs.scores.items()}
    assert {name: score.value for name, score in by_images.scores.items()} == values


def test_unusable_input_is_refused_with_the_message_of_the_service(client, service_url, card):
    images = galaxies(card.image, 6)
    shape = f"expected images of shape {('n', *card.image.shape)}".replace("'", "")
    ones, million, lost = np.ones((6, 180)), np.full((1_000_000, 1), 0.1), PhotozClient(f"{service_url}/elsewhere")
    for call, kind, message in (
        (lambda: client.predict(images[:, 1:]), BadInput, re.escape(shape)),
        (lambda: client.predict(images[:0]), BadInput, "at least one cutout"),
        (lambda: client.predict(np.full_like(images[:2], np.nan)), BadInput, "cutout 0 .*finite pixel"),
        (lambda: client.evaluate(np.ones(6), images=images, pdfs=ones), InvalidInput, "images.* pdfs"),
        (lambda: client.evaluate(np.ones(4), images=images), BadInput, r"6 .*, one for each galaxy, got shape \(4,\)"),
        (lambda: client.evaluate_plot(np.ones(6), pdfs=ones, plot="sculpture"), BadInput, "scatter"),
        (lambda: client.evaluate(million[:, 0], pdfs=million), TooLargeForService, "in one request, got 1,000,000"),
        (lost.model, RequestRefused, "/elsewhere/model"),
    ):
        with pytest.raises(kind, match=message):
            call()
    lost.close()
