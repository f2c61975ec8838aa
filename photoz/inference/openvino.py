"""OpenVINO: import it, and compile and inspect networks, for the service and the export check of the training alike."""

import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from photoz.errors import InvalidBundle

Shapes = Mapping[str, tuple[int | None, ...]]

PDF = "pdf"


def import_openvino() -> Any:
    """Import and return `openvino`, without two of its parts.

    One reports each import to Google Analytics, from a child process and for up to three seconds. The other converts
    networks of other frameworks, and takes half of the import time; see `import_converter`.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    if "openvino" not in sys.modules:
        sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
    import openvino  # type: ignore[import-untyped]

    if sys.modules.get("openvino.tools.ovc", openvino) is None:
        del sys.modules["openvino.tools.ovc"]
    return openvino


def import_converter() -> Any:
    """Import and return `openvino.convert_model`, which converts networks of other frameworks."""
    import_openvino()
    from openvino.tools.ovc import convert_model  # type: ignore[import-untyped]

    return convert_model


def compile_network(path: str | os.PathLike[str], precision: str, threads: int = 0) -> Any:
    """Compile a network from its .xml file for the CPU, for low latency and any number of cutouts.

    `precision`, "f32" or "bf16", applies to layers that are not quantised. It is always set: OpenVINO's default is
    bfloat16 on a CPU that has it, and then some networks end the process with a floating point exception. Threads are
    not tied to cores, since OpenVINO would tie those of all processes to the same cores. With 0 threads OpenVINO
    chooses their number. Raises `InvalidBundle` if OpenVINO cannot read or compile the network.
    """
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    try:
        return import_openvino().Core().compile_model(path, "CPU", config)
    except RuntimeError as error:
        message = str(error).strip().splitlines()[-1]  # without the source locations before it
        raise InvalidBundle(f"OpenVINO cannot read {path}: {message}") from error


def run_once(path: str, precision: str, threads: int) -> tuple[Shapes, Shapes] | None:
    """Compile a network, run it on ones, and return the shapes of its inputs and outputs by name.

    Returns None if this processor does not compute in the precision. Raises as `compile_network`.
    """
    if not runs(precision):
        return None
    compiled = compile_network(path, precision, threads)
    inputs = {port.get_any_name(): extent(port) for port in compiled.inputs}
    compiled({name: np.ones([1 if n is None else n for n in shape], np.float32) for name, shape in inputs.items()})
    return inputs, {name: extent(port) for name, port in named_outputs(compiled).items()}


def named_outputs(compiled: Any) -> dict[str, Any]:
    """Return the outputs of a compiled network by name; a single output is the PDF under any name."""
    ports = compiled.outputs
    return {PDF: ports[0]} if len(ports) == 1 else {port.get_any_name(): port for port in ports}


def extent(port: Any) -> tuple[int | None, ...]:
    """Return the shape of an input or output; None stands for any length."""
    return tuple(None if length.is_dynamic else length.get_length() for length in port.get_partial_shape())


def runs(precision: str) -> bool:
    """Whether this processor computes in a precision; on others OpenVINO runs "bf16" as float32, which is no faster."""
    if precision != "bf16":
        return True
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
