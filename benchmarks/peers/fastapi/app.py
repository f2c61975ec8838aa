"""Plain FastAPI: uvicorn app:app. What most people write first: no batching, the network in FastAPI's own threads."""

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from benchmarks.peers.network import Network

app = FastAPI()
network = Network()


@app.post("/predict")
async def predict(request: Request) -> Response:
    """Take pixels and reddenings, give PDFs."""
    body = await request.body()
    [answer] = await run_in_threadpool(network.answer, [body])
    return Response(answer, media_type="application/octet-stream")
