"""The Open Inference Protocol as the real service speaks it, over httpx and over a bare socket."""

import io
import json
import socket
import struct
import time
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from running import running_service
from service.compression import COMPRESSORS
from toys import GRIZ, galaxies

from photoz.estimates import COLUMNS, Flag
from photoz.io import npz
from photoz.io.npz import npz_bytes
from photoz.protocol import contract
from photoz.protocol.open_inference import HEADER_LENGTH, decode_response, encode_request
from photoz.protocol.tensors import Tensor


@pytest.fixture(scope="module")
def path(card):
    return f"/v2/models/{card.name}/infer"


@pytest.fixture(scope="module")
def infer(client, path):
    """Post arrays, as bytes or as JSON, and return the response."""

    def post(arrays, outputs=None, **options):
        message = encode_request([Tensor.of(*item) for item in arrays.items()], outputs, **options)
        return client.post(path, content=message.body, headers=length_header(message.header_length))

    return post


def length_header(length):
    return {} if length is None else {HEADER_LENGTH: str(length)}


def answered(response):
    """Read the outputs of a good response as arrays by name."""
    assert response.status_code == 200, response.text
    length = response.headers.get(HEADER_LENGTH)
    decoded = decode_response(response.content, length and int(length))
    return {name: tensor.array for name, tensor in decoded.outputs.items()}


def refused(response, status, *words):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    for word in words:
        assert word in response.json()["error"]


@pytest.fixture(scope="module")
def table(post_npz):
    """Return what /predict_file answers for the same arrays."""

    def predict(arrays):
        response = post_npz("/predict_file?pdf=true", arrays, accept=contract.NPZ)
        return npz.read_arrays(io.BytesIO(response.content))

    return predict


def check_same(answer, expected):
    assert list(answer) == list(expected) == [*COLUMNS, "pdf"]
    assert answer["object_id"].tolist() == expected["object_id"].tolist()
    np.testing.assert_array_equal(answer["pdf"], expected["pdf"].astype(np.float32))
    for name in set(COLUMNS) - {"object_id"}:
        assert answer[name].dtype == (np.int32 if name == "flags" else np.float64)
        np.testing.assert_array_equal(answer[name], expected[name])


@pytest.mark.parametrize("binary", [True, False])
def test_it_answers_what_the_other_endpoints_answer(infer, table, images, binary):
    n = len(images)
    arrays = {"images": images, "ebv": np.linspace(0.0, 0.2, n, dtype=np.float32)}
    arrays["object_id"] = np.array([f"NGC {i} é" for i in range(n)])
    check_same(answered(infer(arrays, binary=binary)), table(arrays))


def test_large_requests_are_answered_in_order(infer, table, card):
    arrays = {"images": galaxies(card.image, 70)}
    check_same(answered(infer(arrays)), table(arrays))


@pytest.mark.parametrize("dtype", ["f8", "f2", "i2", "u4"])
def test_images_may_be_of_any_number_type(infer, table, images, dtype):
    arrays = {"images": np.clip(100 * images, 0, None).astype(dtype)}
    check_same(answered(infer(arrays)), table(arrays))


def test_masked_pixels_and_unknown_reddening_raise_flags(infer, card, images):
    masked = images[:2].copy()
    masked[1, 0, 0, 0] = np.nan
    ebv = np.array([[0.02], [np.nan]], np.float32)
    for binary in (True, False):
        flags = answered(infer({"images": masked, "ebv": ebv}, ["flags"], binary=binary))["flags"]
        assert [bool(flag & Flag.MASKED_PIXELS) for flag in flags] == [False, True]
        assert [bool(flag & Flag.EBV_ASSUMED) for flag in flags] == [False, card.inputs.ebv]


def test_integers_may_be_names(infer, images):
    names = np.array([587722952230174996, 2**63 - 1])
    answer = answered(infer({"images": images[:2], "object_id": names}, ["object_id"]))
    assert answer["object_id"].tolist() == [str(name) for name in names]


def test_only_the_outputs_that_are_wanted_come_in_their_order(infer, images, card):
    response = infer({"images": images}, ["flags", "pdf"], request_id="a-7")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"
    decoded = decode_response(response.content, int(response.headers[HEADER_LENGTH]))
    assert (decoded.model_name, decoded.model_version, decoded.request_id) == (card.name, card.version, "a-7")
    assert [(t.name, t.datatype, t.array.shape) for t in decoded.outputs.values()] == [
        ("flags", "INT32", (len(images),)),
        ("pdf", "FP32", (len(images), card.grid.n_bins)),
    ]


def test_without_a_word_about_bytes_the_answer_is_json(client, path, images):
    tensor = {"name": "images", "shape": images[:1].shape, "datatype": "FP32", "data": images[:1].tolist()}
    response = client.post(path, json={"inputs": [tensor], "outputs": [{"name": "z_mean"}]})
    assert response.headers["content-type"] == "application/json"
    assert HEADER_LENGTH not in response.headers
    (output,) = response.json()["outputs"]
    assert "id" not in response.json()
    assert (output["name"], output["shape"], output["datatype"]) == ("z_mean", [1], "FP64")
    assert 0 < output["data"][0] < 1


def test_bytes_and_json_can_be_mixed_in_both_directions(client, path, images):
    n = len(images)
    names = {"name": "object_id", "shape": [n], "datatype": "BYTES", "data": [f"g{i}" for i in range(n)]}
    pixels = {"name": "images", "shape": images.shape, "datatype": "FP32"}
    pixels["parameters"] = {"binary_data_size": images.nbytes}
    outputs = [{"name": "z_mean", "parameters": {"binary_data": False}}, {"name": "odds"}, {"name": "object_id"}]
    content = {"inputs": [names, pixels], "outputs": outputs, "parameters": {"binary_data_output": True}}
    header = json.dumps(content).encode()
    response = client.post(path, content=header + images.tobytes(), headers=length_header(len(header)))
    answer = json.loads(response.content[: int(response.headers[HEADER_LENGTH])])
    assert ["data" in output for output in answer["outputs"]] == [True, False, False]
    assert answered(response)["object_id"].tolist() == names["data"]


def test_what_server_and_model_are(client, card):
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    (listed,) = client.post("/v2/repository/index", json={}).json()
    assert (listed["name"], listed["version"], listed["state"]) == (card.name, card.version, "READY")
    for prefix in (f"/v2/models/{card.name}", f"/v2/models/{card.name}/versions/{card.version}"):
        assert client.get(f"{prefix}/ready").json() == {"name": card.name, "ready": True}
        model = client.get(prefix).json()
        assert (model["name"], model["versions"]) == (card.name, [card.version])
        described = {tensor["name"]: tensor for tensor in model["inputs"] + model["outputs"]}
        assert described["images"] == {"name": "images", "datatype": "FP32", "shape": [-1, *card.image.shape]}
        assert described["pdf"] == {"name": "pdf", "datatype": "FP32", "shape": [-1, card.grid.n_bins]}
        assert {"ebv", "object_id", *COLUMNS} <= described.keys()


def test_the_answer_is_as_the_metadata_says(client, infer, card, images):
    promised = client.get(f"/v2/models/{card.name}").json()["outputs"]
    answer = json.loads(infer({"images": images}, binary=False).content)["outputs"]
    assert [(t["name"], t["datatype"], t["shape"][1:]) for t in answer] == [
        (t["name"], t["datatype"], t["shape"][1:]) for t in promised
    ]


def test_other_models_versions_and_methods_are_not_there(client, card):
    name = card.name
    refused(client.get("/v2/models/other"), 404, "no model other here", name, card.version)
    refused(client.get(f"/v2/models/{name}/versions/0/ready"), 404, f"no version 0 of model {name}", card.version)
    refused(client.post("/v2/models/other/infer", content=b"x"), 404, "no model other here")
    refused(client.post(f"/v2/models/{name}/versions/0/infer", content=b"x"), 404, "no version 0")
    refused(client.get(f"/v2/models/{name}/config"), 404, "/config")
    refused(client.get(f"/v2/models/{name}/infer"), 405, "GET")


def test_the_document_tells_of_it(client, card):
    document = client.get("/docs.json").json()
    paths = document["paths"]
    for path in ("/v2", "/v2/health/live", "/v2/models/{model_name}/versions/{model_version}/ready"):
        assert "get" in paths[path]
    operation = paths["/v2/models/{model_name}/infer"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
    assert {"InferRequest", "InferResponse", "InferTensor"} <= set(document["components"]["schemas"])
    for name in document["paths"]:
        concrete = name.replace("{model_name}", card.name).replace("{model_version}", card.version)
        assert client.options(concrete).status_code == 405, name  # there, but not for this method


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": lambda a: a[:, 1:]}, ["expected images of shape"]),
        ({"images": lambda a: a[0, 0]}, ["expected images of shape"]),
        ({"images": lambda a: np.moveaxis(a, -1, 1)}, ["numpy.moveaxis"]),
        ({"images": lambda a: a[:0]}, ["at least one cutout"]),
        ({"images": lambda a: np.full_like(a, np.nan)}, ["cutout 0 has no finite pixel"]),
        ({"images": lambda a: np.full((2, 2), "a")}, ["expected images as FP32 or", "got BYTES"]),
        ({"ebv": lambda a: np.zeros(len(a) + 1)}, ["expected one ebv"]),
        ({"ebv": lambda a: np.full(len(a), -1.0)}, ["0 <= ebv <= 10"]),
        ({"ebv": lambda a: np.full(len(a), "a")}, ["expected ebv as FP32 or", "got BYTES"]),
        ({"object_id": lambda a: np.array(["one"])}, ["names or integers", "(1,)"]),
        ({"object_id": lambda a: np.full(len(a), 0.5)}, ["expected object_id as BYTES or", "got FP64"]),
        ({"object_id": lambda a: np.full(len(a), "x" * 257)}, ["at most 256 characters, got one of 257"]),
        ({"pixels": lambda a: a}, ["there is no input pixels; expected images"]),
    ],
)
@pytest.mark.parametrize("binary", [True, False])
def test_inputs_that_cannot_be_used_are_told(infer, images, change, words, binary):
    arrays = {"images": images[:2]} | {name: make(images[:2]) for name, make in change.items()}
    refused(infer(arrays, binary=binary), 400, *words)


def test_a_request_without_images_or_for_other_outputs_is_told(infer, images):
    refused(infer({"ebv": np.zeros(1)}), 400, "expected an input images, got ebv")
    refused(infer({"images": images}, ["redshift"]), 400, "there is no output redshift", "z_mean")


@pytest.mark.parametrize("length", ["", "-1", "1e2", "²", "0", "99999999", "9" * 30])
def test_a_length_of_the_json_that_cannot_be_is_told(client, path, length):
    headers = {HEADER_LENGTH: length.encode("latin-1")}
    refused(client.post(path, content=b'{"inputs": []}', headers=headers), 400, HEADER_LENGTH)


def test_bytes_that_are_too_few_or_too_many_are_told(client, path, images):
    message = encode_request([Tensor.of("images", images)])
    header = length_header(message.header_length)
    refused(client.post(path, content=message.body[:-4], headers=header), 400, "bytes behind the JSON")
    refused(client.post(path, content=message.body + b"junk", headers=header), 400, "bytes behind the JSON")
    refused(client.post(path, content=message.body), 400, "not JSON")
    refused(client.post(path, content=b""), 400, "not JSON")


def test_an_error_names_the_model_too(infer, images, card):
    assert infer({"images": images[:0]}).headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"


@pytest.fixture(scope="module")
def small_service(make_toy_bundle, tmp_path_factory):
    """Run 23x23 griz cutouts, 90 bins, no E(B-V), and at most three galaxies a request."""
    variables = {"PHOTOZ_BUNDLE": make_toy_bundle().path, "PHOTOZ_MAX_ROWS": 3}
    with running_service(tmp_path_factory.mktemp("small"), **variables) as running:
        yield running.url


def test_other_sizes_bands_and_grids_are_served_as_they_are(small_service):
    arrays = {"images": galaxies(GRIZ, 3)}
    message = encode_request([Tensor.of("images", arrays["images"])])
    url = f"{small_service}/v2/models/toy/infer"
    answer = answered(httpx.post(url, content=message.body, headers=length_header(message.header_length)))
    assert answer["pdf"].shape == (3, 90)
    accept = {"accept": contract.NPZ}
    expected = httpx.post(f"{small_service}/predict_file?pdf=true", content=npz_bytes(arrays), headers=accept)
    check_same(answer, npz.read_arrays(io.BytesIO(expected.content)))


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"images": galaxies(GRIZ, 4)}, "got 4"),
        ({"images": galaxies(GRIZ, 1), "object_id": np.full(4, "x")}, "got shape (4,)"),
    ],
    ids=["images", "names"],
)
def test_more_galaxies_than_one_request_may_carry_are_too_large(small_service, arrays, told):
    message = encode_request([Tensor.of(*item) for item in arrays.items()])
    url = f"{small_service}/v2/models/toy/infer"
    response = httpx.post(url, content=message.body, headers=length_header(message.header_length))
    refused(response, 413, "at most 3", told)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_unpacks_into_too_much_is_not_unpacked(small_service, encoding):
    body = COMPRESSORS[encoding](bytes(10**8))
    assert len(body) < 10**6
    response = httpx.post(f"{small_service}/v2/models/toy/infer", content=body, headers={"content-encoding": encoding})
    refused(response, 413, "bytes unpacked")


def exchange(url, *pieces, pause=0.0):
    """Send bytes over a bare socket, piece by piece; return the status line, the headers and the body of the answer."""
    address = urlsplit(url).hostname, urlsplit(url).port
    with socket.create_connection(address, timeout=60) as connection, connection.makefile("rb") as answer:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        status = answer.readline().strip()
        headers = dict(line.lower().strip().split(b": ", 1) for line in iter(answer.readline, b"\r\n"))
        return status, headers, answer.read(int(headers[b"content-length"]))


def by_hand(card, images):
    """Write a request for z_mean and flags of some images, byte by byte; return the JSON and the bytes behind it."""
    n, shape = len(images), ",".join(str(length) for length in images.shape)
    header = (
        f'{{"id":"by hand","inputs":[{{"name":"images","shape":[{shape}],"datatype":"FP32",'
        f'"parameters":{{"binary_data_size":{images.nbytes}}}}},{{"name":"object_id","shape":[{n}],'
        f'"datatype":"BYTES","parameters":{{"binary_data_size":{6 * n}}}}}],'
        '"outputs":[{"name":"z_mean","parameters":{"binary_data":true}},'
        '{"name":"object_id","parameters":{"binary_data":true}},{"name":"flags"}]}'
    )
    names = b"".join(struct.pack("<I2s", 2, b"g%d" % i) for i in range(n))
    return header.encode(), images.astype("<f4").tobytes() + names


def check_by_hand(status, headers, body, expected, card):
    assert status == b"HTTP/1.1 200 OK"
    assert headers[b"content-type"] == b"application/octet-stream"
    length = int(headers[b"inference-header-content-length"])
    answer, behind = json.loads(body[:length]), body[length:]
    n = len(expected["z_mean"])
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (card.name, card.version, "by hand")
    z_mean, names, flags = answer["outputs"]
    assert z_mean["parameters"] == {"binary_data_size": 8 * n}
    assert struct.unpack(f"<{n}d", behind[: 8 * n]) == tuple(expected["z_mean"])
    assert names["parameters"] == {"binary_data_size": 6 * n}
    assert behind[8 * n :] == b"".join(struct.pack("<I2s", 2, b"g%d" % i) for i in range(n))
    assert flags == {"name": "flags", "shape": [n], "datatype": "INT32", "data": expected["flags"].tolist()}


def test_a_request_written_by_hand_over_a_bare_socket(service_url, path, card, images, table):
    header, behind = by_hand(card, images)
    start = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {len(header)}\r\nContent-Length: {len(header + behind)}\r\n\r\n"
    )
    check_by_hand(*exchange(service_url, start.encode() + header + behind), table({"images": images}), card)


def test_the_same_in_chunks_that_arrive_one_by_one(service_url, path, card, images, table):
    header, behind = by_hand(card, images)
    content = header + behind
    start = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        f"Inference-Header-Content-Length: {len(header)}\r\n\r\n"
    )
    ends = [0, 7, len(header) - 1, len(header) + 5, len(header) + 100_001, len(content)]
    pieces = [content[i:j] for i, j in zip(ends[:-1], ends[1:], strict=True)]
    chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    answer = exchange(service_url, start.encode(), *chunks, b"0\r\n\r\n", pause=0.02)
    check_by_hand(*answer, table({"images": images}), card)


def test_a_client_that_goes_away_in_mid_request_harms_nobody(service, path, client):
    already = service.log.stat().st_size
    address = urlsplit(service.url).hostname, urlsplit(service.url).port
    with socket.create_connection(address) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{{".encode())
        time.sleep(0.2)
    time.sleep(0.2)
    assert client.get("/v2/health/ready").status_code == 200
    assert "Traceback" not in service.log.read_text()[already:]


def packed_post(client, path, images, encoding, accept, change=lambda body: body):
    message = encode_request([Tensor.of("images", images)], ["z_mean", "pdf"])
    headers = {"content-encoding": encoding, "accept-encoding": accept} | length_header(message.header_length)
    body = COMPRESSORS[encoding](message.body) if encoding in COMPRESSORS else message.body
    return client.post(path, content=change(body), headers=headers)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_packed_requests_are_answered_packed_if_that_alone_is_asked_for(client, path, images, table, encoding):
    response = packed_post(client, path, images, encoding, encoding)
    assert response.headers["content-encoding"] == encoding  # httpx unpacks it
    np.testing.assert_array_equal(answered(response)["z_mean"], table({"images": images})["z_mean"])
    response = packed_post(client, path, images, encoding, "gzip, deflate, br")
    assert "content-encoding" not in response.headers
    assert "content-encoding" not in packed_post(client, path, images, "identity", "").headers


def test_a_packed_body_that_is_damaged_is_told(client, path, images):
    refused(packed_post(client, path, images, "br", "gzip"), 415, "Content-Encoding br", "gzip or deflate")
    for encoding in COMPRESSORS:
        refused(packed_post(client, path, images, encoding, "", lambda b: b[:-50]), 400, "ends before its", encoding)
        refused(packed_post(client, path, images, encoding, "", lambda b: b + b"junk"), 400, "got 4 bytes more")
        refused(packed_post(client, path, images, encoding, "", lambda b: b[2:]), 400, f"packed with {encoding}")
