"""The plain prototype that the service is compared with: the protocol's route in a BentoML service without changes.

One executor thread, no dynamic batching, the same engine with the same threads; BentoML's own configuration, with its
tracing and its access log; no validation, no recalibration, no flags.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bentoml
import numpy as np
import numpy.typing as npt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.speed.inprocess import engine_of
from photoz.protocol.open_inference import HEADER_LENGTH, decode_request, encode_response
from photoz.protocol.tensors import Tensor

FloatArray = npt.NDArray[np.float32]


async def _infer(request: Request) -> Response:
    inputs = decode_request(await request.body(), int(request.headers[HEADER_LENGTH])).inputs
    pdfs = await bentoml.get_current_service().pdfs(inputs["images"].array, inputs["ebv"].array)
    message = encode_response([(Tensor.of("pdf", pdfs), True)], model_name="photoz", model_version="1")
    headers = {HEADER_LENGTH: str(message.header_length)}
    return Response(bytes(message.body), media_type="application/octet-stream", headers=headers)


@bentoml.service
@bentoml.asgi_app(Starlette(routes=[Route("/v2/models/{name}/infer", _infer, methods=["POST"])]), path="/")
class Prototype:
    """A bundle's engine behind one thread."""

    def __init__(self) -> None:
        self._predict = engine_of(Path(os.environ["PHOTOZ_BUNDLE"]))
        self._executor = ThreadPoolExecutor(max_workers=1)

    async def pdfs(self, images: FloatArray, ebv: FloatArray) -> FloatArray:
        """Return PDFs, (n, n_bins)."""
        pdfs = await asyncio.get_running_loop().run_in_executor(self._executor, self._predict, images, ebv)
        return pdfs.astype(np.float32)
