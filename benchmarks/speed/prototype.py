"""The plain prototype that the service is compared with: the protocol's route in a BentoML service without changes.

One executor thread, no dynamic batching, the same engine with the same threads; BentoML's own configuration, with its
tracing and its access log. It takes the binary tensors of the Open Inference Protocol and answers with the PDFs: no
validation, no recalibration, no flags.

    PHOTOZ_BUNDLE=models/photoz PHOTOZ_THREADS=2 python -m bentoml serve benchmarks.speed.prototype:Prototype
"""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import numpy.typing as npt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.speed.inprocess import engine_of

HEADER = "Inference-Header-Content-Length"

FloatArray = npt.NDArray[np.float32]


async def _infer(request: Request) -> Response:
    body = await request.body()
    split = int(request.headers[HEADER])
    images, ebv = _tensors(json.loads(body[:split])["inputs"], body[split:])
    return _reply(await bentoml.get_current_service().pdfs(images, ebv))


def _tensors(inputs: list[dict[str, Any]], binary: bytes) -> list[FloatArray]:
    tensors, start = [], 0
    for tensor in inputs:
        shape = tensor["shape"]
        tensors.append(np.frombuffer(binary, "<f4", int(np.prod(shape)), start).reshape(shape))
        start += tensor["parameters"]["binary_data_size"]
    return tensors


def _reply(pdfs: FloatArray) -> Response:
    output = {"name": "pdf", "datatype": "FP32", "shape": pdfs.shape, "parameters": {"binary_data_size": pdfs.nbytes}}
    header = json.dumps({"model_name": "photoz", "outputs": [output]}).encode()
    return Response(header + pdfs.tobytes(), media_type="application/octet-stream", headers={HEADER: str(len(header))})


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
