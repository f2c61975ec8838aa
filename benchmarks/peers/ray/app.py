"""Ray Serve with batching: python app.py PORT. Ray opens ports on all interfaces: run it in a network namespace."""

import asyncio
import os
import signal
import sys

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers.network import BATCH_WAIT, MAX_BATCH, Network

CPUS = len(os.sched_getaffinity(0))


@serve.deployment(num_replicas=1, max_ongoing_requests=4 * MAX_BATCH, ray_actor_options={"num_cpus": CPUS})
class Predictor:
    """One replica with all cores."""

    def __init__(self) -> None:
        self.network = Network()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT)
    async def answer(self, bodies: list[bytes]) -> list[bytes]:
        """Answer many requests with one inference in a thread, since the router shares the event loop."""
        return await asyncio.to_thread(self.network.answer, bodies)

    async def __call__(self, request: Request) -> Response:
        """Answer pixels and reddenings with PDFs."""
        return Response(await self.answer(await request.body()), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(num_cpus=CPUS, include_dashboard=False, object_store_memory=200_000_000, _node_ip_address="127.0.0.1")
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Predictor.bind(), route_prefix="/predict", logging_config={"enable_access_log": False})
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
