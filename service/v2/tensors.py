"""What the tensors of the Open Inference Protocol mean here: which ones a model takes, which it gives, and why not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidInput, TooLarge
from photoz.estimates import COLUMNS
from photoz.inference.batch import Batch
from photoz.model.card import Card
from photoz.protocol.open_inference import Request, RequestedOutput
from photoz.protocol.tensors import BYTES, NUMBERS, Tensor
from service.batch import refuse_long_names
from service.decode import Arrays

Columns = Mapping[str, npt.NDArray[Any]]

NAMES_OR_INTEGERS = (BYTES, "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8")

# Datatypes that are taken, the one of the metadata first.
INPUTS: Mapping[str, Sequence[str]] = {
    "images": ("FP32", *(name for name in NUMBERS if name != "FP32")),
    "ebv": ("FP32", *(name for name in NUMBERS if name != "FP32")),
    "object_id": NAMES_OR_INTEGERS,
}

# The PDF comes out of the network in float32, and is most of the answer: more digits of it would be noise. The rest are
# few, and with all their digits they are what the other endpoints answer.
OUTPUTS: Mapping[str, str] = {name: "FP64" for name in COLUMNS} | {
    "object_id": BYTES,
    "flags": "INT32",
    "pdf": "FP32",
}


def metadata(card: Card) -> dict[str, Any]:
    """Describe the model as the protocol does, -1 for the number of galaxies."""
    axes = {"images": [-1, *card.image.shape], "pdf": [-1, card.grid.n_bins]}
    inputs = {name: datatypes[0] for name, datatypes in INPUTS.items()}

    def described(datatypes: Mapping[str, str]) -> list[dict[str, Any]]:
        return [
            {"name": name, "datatype": datatype, "shape": axes.get(name, [-1])} for name, datatype in datatypes.items()
        ]

    return {
        "name": card.name,
        "versions": [card.version],
        "platform": "photoz_bundle",
        "inputs": described(inputs),
        "outputs": described(OUTPUTS),
    }


def wanted_outputs(request: Request) -> tuple[RequestedOutput, ...]:
    """Return the outputs that a request wants, in its order.

    Parameters
    ----------
    request : Request
        Without a choice it gets them all.

    Returns
    -------
    tuple of RequestedOutput
        At least one.

    Raises
    ------
    InvalidInput
        If there is no such output.
    """
    if request.outputs is None:
        return tuple(RequestedOutput(name, request.binary) for name in OUTPUTS)
    for output in request.outputs:
        if output.name not in OUTPUTS:
            raise InvalidInput(f"there is no output {output.name}; expected any of {', '.join(OUTPUTS)}")
    return request.outputs


def as_arrays(request: Request, max_rows: int) -> Arrays:
    """Return the inputs as plain arrays.

    Parameters
    ----------
    request : Request
        Well-formed.
    max_rows : int
        Galaxies allowed.

    Returns
    -------
    dict
        For `service.batch.as_batch`, which checks what is in them.

    Raises
    ------
    InvalidInput, TooLarge
        If an input is missing, unknown, or of another datatype, or names are too long.
    """
    inputs = request.inputs
    for name, tensor in inputs.items():
        if name not in INPUTS:
            raise InvalidInput(f"there is no input {name}; expected images and, optionally, ebv and object_id")
        if tensor.datatype not in INPUTS[name]:
            raise InvalidInput(f"expected {name} as {' or '.join(INPUTS[name])}, got {tensor.datatype}")
    if "images" not in inputs:
        raise InvalidInput(f"expected an input images, got {', '.join(inputs) or 'none'}")
    return {
        name: _names(tensor, max_rows) if tensor.datatype == BYTES else tensor.array for name, tensor in inputs.items()
    }


def as_tensors(batch: Batch, columns: Columns, outputs: Sequence[RequestedOutput]) -> Iterator[tuple[Tensor, bool]]:
    """Yield the outputs that are wanted, and whether as bytes.

    Parameters
    ----------
    batch : Batch
        n galaxies.
    columns : mapping of str to (n, ...) ndarray
        What was computed of them.
    outputs : sequence of RequestedOutput
        What is wanted.

    Yields
    ------
    Tensor, bool
        In the order of `outputs`.
    """
    for output in outputs:
        values = batch.names if output.name == "object_id" else columns[output.name]
        yield Tensor(output.name, OUTPUTS[output.name], values), output.binary


def _names(tensor: Tensor, max_rows: int) -> npt.NDArray[np.str_]:
    names = tensor.array
    if names.size > max_rows:
        raise TooLarge(f"expected at most {max_rows:,} names in one request, got {names.size:,}")
    refuse_long_names(max(map(len, names.flat), default=0))  # before each takes the room of the longest
    return names.astype(np.str_)
