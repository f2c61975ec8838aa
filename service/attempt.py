"""Compile an engine and let it predict once, in a process that it may take down: `service.check` runs this.

It imports as little as it can, since no worker starts before it has ended.
"""

import json
import sys

import numpy as np

from photoz.openvino import compile_network, extent, named_outputs, reason, runs


def main(threads: str, *engines: str) -> int:
    """Try the first of some engines that this processor runs.

    Parameters
    ----------
    threads : str
        CPU threads.
    *engines : str
        PRECISION:PATH of each, the best first.

    Returns
    -------
    int
        Exit status. The first line on stdout is the place of the engine among those given, or nothing if none runs
        here. The second is what it takes and gives as JSON, or, if the status is 1, what is wrong.
    """
    place = next((place for place, engine in enumerate(engines) if runs(engine.partition(":")[0])), None)
    if place is None:
        return 0
    print(place, flush=True)
    precision, _, path = engines[place].partition(":")
    try:
        compiled = compile_network(path, precision, int(threads))
    except RuntimeError as error:
        print(f"OpenVINO cannot read {path}: {reason(error)}")
        return 1
    inputs = {port.get_any_name(): extent(port) for port in compiled.inputs}
    compiled({name: np.ones([1 if n is None else n for n in shape], np.float32) for name, shape in inputs.items()})
    print(json.dumps([inputs, {name: extent(port) for name, port in named_outputs(compiled).items()}]))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
