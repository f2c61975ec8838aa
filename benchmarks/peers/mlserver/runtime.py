"""MLServer's custom runtime with adaptive batching: `mlserver start benchmarks/peers/mlserver`.

Cutouts come over gRPC as BYTES, one element for each: MLServer turns each number of any other tensor into a Python
object. This was about twice as fast as base64 in its REST API, and `parallel_workers` 0 faster than 1, which runs the
network in another process. An element is the pixels of a cutout and its reddening; an answer is its PDF.
"""

import asyncio

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.peers.network import Network


class Runtime(MLModel):
    """The network of the file that MODEL names."""

    async def load(self) -> bool:
        """Load the network and warm it up."""
        self.network = Network()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a batch in a thread, so that the event loop goes on."""
        cutouts = payload.inputs[0].data.root
        pdfs = await asyncio.to_thread(self.network.answer_rows, cutouts)
        output = ResponseOutput(name="pdf", shape=[len(pdfs), 1], datatype="BYTES", data=pdfs)
        return InferenceResponse(model_name=self.name, outputs=[output])
