"""LitServe with batching, raw bodies, its ZeroMQ queue and an HTTP process for each core: python app.py PORT."""

import os
import sys
from typing import Annotated

import litserve
from fastapi import Body, Response

from benchmarks.peers.network import BATCH_WAIT, MAX_BATCH, Network


class Api(litserve.LitAPI):
    """Bytes in and out; `Network.answer` makes the batch."""

    def setup(self, device: str) -> None:
        """Load the network and warm it up."""
        self.network = Network()

    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        """Return the body."""
        return request

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Return the bodies."""
        return inputs

    def predict(self, x: list[bytes]) -> list[bytes]:
        """Answer them with one inference."""
        return self.network.answer(x)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """Return the answers."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """Answer with bytes in place of JSON."""
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    api = Api(max_batch_size=MAX_BATCH, batch_timeout=BATCH_WAIT)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=len(os.sched_getaffinity(0)),
        generate_client_file=False,
        log_level="warning",
    )
