"""OpenVINO, imported and set up in the one way that both training and service want it.

What the export has checked is what the service runs, since both compile a network here.
"""

import os
import sys
from typing import Any

PDF = "pdf"

# What the processor says that it has, if it multiplies in bfloat16.
_BFLOAT16 = "BF16"


def import_openvino() -> Any:
    """Import OpenVINO without what serving does not need.

    That is the part that reports each import to Google Analytics, through a child process and for up to three seconds,
    and the converter of other frameworks' networks, which takes half of the time; `import_converter` brings that back.
    Only those who call this need OpenVINO.

    Returns
    -------
    module
        `openvino`.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    if "openvino" not in sys.modules:
        sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
    import openvino  # type: ignore[import-untyped]

    if sys.modules.get("openvino.tools.ovc", openvino) is None:
        del sys.modules["openvino.tools.ovc"]
    return openvino


def import_converter() -> Any:
    """Import what converts other frameworks' networks.

    Returns
    -------
    function
        `openvino.convert_model`.
    """
    import_openvino()
    from openvino.tools.ovc import convert_model  # type: ignore[import-untyped]

    return convert_model


def compile_network(path: str | os.PathLike[str], precision: str, threads: int = 0) -> Any:
    """Compile a network for the CPU, for answers one after the other.

    Parameters
    ----------
    path : path-like
        Its .xml file.
    precision : {"f32", "bf16"}
        What it computes in, where it is not quantised. Set on purpose: where the CPU has bfloat16 that is OpenVINO's
        default, and with it some networks end the process with a floating point exception.
    threads : int
        CPU threads; 0 leaves it to OpenVINO.

    Returns
    -------
    openvino.CompiledModel
        Which takes any number of cutouts.

    Raises
    ------
    RuntimeError
        If OpenVINO cannot read or compile it.
    """
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
    }
    return import_openvino().Core().compile_model(path, "CPU", config)


def named_outputs(compiled: Any) -> dict[str, Any]:
    """Name the outputs of a compiled network; the only one is the PDF, whatever it is called."""
    ports = compiled.outputs
    return {PDF: ports[0]} if len(ports) == 1 else {port.get_any_name(): port for port in ports}


def extent(port: Any) -> tuple[int | None, ...]:
    """Return the shape of an input or output; None is any length."""
    return tuple(None if length.is_dynamic else length.get_length() for length in port.get_partial_shape())


def reason(error: RuntimeError) -> str:
    """Return what OpenVINO says is wrong, without the places in its own source that come before it."""
    return str(error).strip().splitlines()[-1]


def runs(precision: str | None) -> bool:
    """Whether this processor computes in a precision; "bf16" on others is float32 to OpenVINO, and no faster."""
    if precision != "bf16":
        return True
    return _BFLOAT16 in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
