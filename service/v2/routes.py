"""The Open Inference Protocol v2 under `/v2`, the fast lane: binary tensors in, binary tensors out.

https://github.com/kserve/open-inference-protocol, with the binary tensor data extension of Triton.
"""

from dataclasses import dataclass
from http import HTTPStatus

import bentoml
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from photoz import __version__
from photoz.errors import PhotozError
from photoz.inference.batch import Batch
from photoz.model.card import Card
from photoz.protocol import contract
from photoz.protocol import open_inference as protocol
from photoz.protocol.open_inference import RequestedOutput
from service import aside
from service.batch import as_batch
from service.compression import COMPRESSORS, chosen_encoding, decompress
from service.decode import OCTETS
from service.edge import json_size
from service.edge.room import Reservation, reservation_of
from service.errors import error_response
from service.tracing import span
from service.v2 import tensors

SERVER = "photoz"
EXTENSIONS = ("binary_tensor_data",)

# A byte of JSON takes the work of so many binary ones, at least.
JSON_WORK = 20


@dataclass(frozen=True)
class Body:
    """The body of a request, and what its headers say of it.

    Parameters
    ----------
    chunks : list of bytes
        As they came.
    header_length : int, or None
        Where its JSON ends, if anything follows that; once unpacked.
    encoding : str
        How it is packed; "" if it is not.
    reservation : Reservation
        The memory that it has.
    """

    chunks: list[bytes]
    header_length: int | None
    encoding: str
    reservation: Reservation

    @classmethod
    async def receive(cls, request: Request) -> "Body":
        """Take in a body to its last byte."""
        header_length = protocol.read_header_length(request.headers.get(protocol.HEADER_LENGTH))
        encoding = request.headers.get("content-encoding", "").strip().lower()
        chunks = [chunk async for chunk in request.stream() if chunk]
        packed = "" if encoding == "identity" else encoding
        return cls(chunks, header_length, packed, reservation_of(request.scope))

    @property
    def work(self) -> int:
        """How many binary bytes it is worth, to `aside.run`; of a packed one nobody can tell before."""
        size = sum(map(len, self.chunks))
        json_size = size if self.header_length is None else self.header_length
        return aside.SMALL + 1 if self.encoding else size + JSON_WORK * json_size

    def unpacked(self, limit: int) -> bytes | memoryview:
        """Return it as one, with the first of its tensors aligned.

        Parameters
        ----------
        limit : int
            Bytes that a packed one may take when unpacked.

        Returns
        -------
        bytes-like
            The body.

        Raises
        ------
        UnsupportedType, TooLarge, MalformedInput
            If it cannot be unpacked.
        """
        if self.encoding:
            return self._decompressed(limit)
        # The chunks have to be copied together anyway: with a gap before them, the tensor behind the JSON begins where
        # numpy and the engine can use it as it is, also from clients that put no spaces there.
        gap = -(self.header_length or 0) % protocol.ALIGNMENT
        return memoryview(b"".join([bytes(gap), *self.chunks] if gap else self.chunks))[gap:]

    def _decompressed(self, limit: int) -> memoryview:
        def grow(size: int) -> None:
            self.reservation.cover(size, "a body that unpacks into")

        unpacked = decompress(b"".join(self.chunks), self.encoding, limit, grow)
        of_json = unpacked[: self.header_length]
        json_size.refuse_too_much(len(of_json))
        self.reservation.take(json_size.cost(bytes(of_json)), "JSON that decodes into")
        return unpacked


@dataclass(frozen=True)
class Order:
    """A request that passed every check.

    Parameters
    ----------
    batch : Batch
        n galaxies.
    outputs : tuple of RequestedOutput
        What is wanted of them.
    request_id : str, or None
        To be echoed.
    """

    batch: Batch
    outputs: tuple[RequestedOutput, ...]
    request_id: str | None

    @property
    def columns(self) -> frozenset[str]:
        """Names of the outputs that have to be computed."""
        return frozenset(output.name for output in self.outputs) - {"object_id"}


async def _infer(request: Request) -> Response:
    service = bentoml.get_current_service()
    card = service.card
    if missing := _missing(request, card):
        return missing
    try:
        body = await Body.receive(request)
        with span("decode"):
            order = await aside.run(body.work, _read, body, card, service.max_rows, service.max_bytes)
        columns = await service.columns(order.batch, order.columns)
        encoding = chosen_encoding(request.headers.get("accept-encoding", ""))
        with span("encode"):
            response = await aside.run(_work_of_answer(order, card), _write, order, columns, card, encoding)
    except PhotozError as error:
        response = _refusal(error)
    except ClientDisconnect:
        response = Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody will read it
    response.headers[contract.MODEL_HEADER] = service.model_label
    return response


def _read(body: Body, card: Card, max_rows: int, max_bytes: int) -> Order:
    content = body.unpacked(max_bytes)
    with aside.without_collector():
        request = protocol.decode_request(content, body.header_length, max_json=json_size.MOST, max_texts=max_rows)
    outputs = tensors.wanted_outputs(request)
    batch = as_batch(tensors.as_arrays(request, max_rows), card, max_rows)
    return Order(batch, outputs, request.request_id)


def _work_of_answer(order: Order, card: Card) -> int:
    as_json = any(not output.binary for output in order.outputs)
    return len(order.batch) * card.grid.n_bins * (4 * JSON_WORK if as_json else 4)


def _write(order: Order, columns: tensors.Columns, card: Card, encoding: str | None) -> Response:
    answered = tensors.as_tensors(order.batch, columns, order.outputs)
    message = protocol.encode_response(
        answered, model_name=card.name, model_version=card.version, request_id=order.request_id
    )
    content, headers, media_type = message.body, {}, contract.JSON
    if message.header_length is not None:
        headers[protocol.HEADER_LENGTH] = str(message.header_length)
        media_type = OCTETS
    if encoding:
        headers["content-encoding"] = encoding
        content = COMPRESSORS[encoding](content)
    return Response(content, media_type=media_type, headers=headers)


def _refusal(error: PhotozError) -> Response:
    """Answer an error with 400 where other endpoints tell 422 from 400: the protocol knows one bad request."""
    response = error_response(error)
    if response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
        response.status_code = HTTPStatus.BAD_REQUEST
    return response


def _missing(request: Request, card: Card) -> Response | None:
    """Answer 404 if the path names another model or version."""
    name, version = request.path_params["name"], request.path_params.get("version", card.version)
    if (name, version) == (card.name, card.version):
        return None
    found = f"model {name}" if name != card.name else f"version {version} of model {name}"
    message = f"there is no {found} here; expected model {card.name}, version {card.version}"
    return JSONResponse({"error": message}, HTTPStatus.NOT_FOUND)


async def _server(request: Request) -> Response:
    return JSONResponse({"name": SERVER, "version": __version__, "extensions": EXTENSIONS})


async def _live(request: Request) -> Response:
    return JSONResponse({"live": True})


async def _ready(request: Request) -> Response:
    return JSONResponse({"ready": True})  # there is no service to ask before its model is loaded and warm


async def _model(request: Request) -> Response:
    card = bentoml.get_current_service().card
    return _missing(request, card) or JSONResponse(tensors.metadata(card))


async def _model_ready(request: Request) -> Response:
    card = bentoml.get_current_service().card
    return _missing(request, card) or JSONResponse({"name": card.name, "ready": True})


async def _index(request: Request) -> Response:
    """List the models: Triton's model repository extension, as far as there is something to tell."""
    card = bentoml.get_current_service().card
    return JSONResponse([{"name": card.name, "version": card.version, "state": "READY", "reason": ""}])


def routes() -> list[Route]:
    """Make the routes, the one that counts first."""
    model = [
        ("/infer", _infer, "POST"),
        ("", _model, "GET"),
        ("/ready", _model_ready, "GET"),
    ]
    one_model = [
        Route(f"/v2/models/{{name}}{version}{path}", endpoint, methods=[method])
        for path, endpoint, method in model
        for version in ("", "/versions/{version}")
    ]
    return [
        *one_model,
        Route("/v2", _server),
        Route("/v2/", _server),
        Route("/v2/health/live", _live),
        Route("/v2/health/ready", _ready),
        Route("/v2/repository/index", _index, methods=["POST"]),
    ]
