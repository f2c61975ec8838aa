"""Plain FastAPI without batching, the network in FastAPI's thread pool: uvicorn app:app."""

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from benchmarks.peers.network import Network

app = FastAPI()
network = Network()


@app.post("/predict")
async def predict(request: Request) -> Response:
    """Answer pixels and reddenings with PDFs."""
    body = await request.body()
    [answer] = await run_in_threadpool(network.answer, [body])
    return Response(answer, media_type="application/octet-stream")
