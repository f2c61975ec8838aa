"""The child process of `preflight`: compiles an engine and runs it once.

It imports as little as possible, since the service starts only after it has ended.
"""

import json
import sys

import numpy as np

from photoz.inference.openvino import compile_network, extent, named_outputs, reason, runs


def try_openvino(threads: str, *engines: str) -> int:
    """Try the first engine, of PRECISION:PATH each, that this processor runs, and return the exit status.

    The first line on stdout is the index of the engine, or nothing if this processor runs none. The second is its
    inputs and outputs as JSON, or, if the status is 1, what is wrong.
    """
    index = next((index for index, engine in enumerate(engines) if runs(engine.partition(":")[0])), None)
    if index is None:
        return 0
    print(index, flush=True)
    precision, _, path = engines[index].partition(":")
    try:
        compiled = compile_network(path, precision, int(threads))
    except RuntimeError as error:
        print(f"OpenVINO cannot read {path}: {reason(error)}")
        return 1
    inputs = {port.get_any_name(): extent(port) for port in compiled.inputs}
    compiled({name: np.ones([1 if n is None else n for n in shape], np.float32) for name, shape in inputs.items()})
    print(json.dumps([inputs, {name: extent(port) for name, port in named_outputs(compiled).items()}]))
    return 0


def try_keras(bundle: str) -> int:
    """Load Keras's network, run it once, and return the exit status; stdout says what is wrong."""
    from photoz.errors import PhotozError
    from photoz.inference.engines import KERAS
    from photoz.inference.predictor import Predictor
    from photoz.model.bundle import ModelBundle

    try:
        Predictor.load(ModelBundle.load(bundle), engine=KERAS)
    except PhotozError as error:
        print(" ".join(str(error).split()))
        return 1
    return 0


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    sys.exit(try_keras(*arguments) if kind == "keras" else try_openvino(*arguments))
