"""Post-training quantisation of a network to eight bits, with NNCF and real cutouts."""

import contextlib
import io
import logging
from enum import Enum
from typing import Any

import numpy as np

from photoz.inference.openvino import import_openvino

# Layers other than convolutions. In "compact", they process fluxes whose range is too large for eight bits.
_KEPT_IN_FLOAT = (
    *("Add", "Asinh", "AvgPool", "Concat", "Divide", "Erf", "Exp", "Gelu", "Interpolate", "MatMul", "Multiply"),
    *("Power", "ReduceMean", "ReduceSum", "Sigmoid", "SoftMax", "SoftPlus", "Sqrt", "Subtract"),
)


class Scope(Enum):
    """The part of a network that is quantised."""

    EVERYTHING = "everything"
    CONVOLUTIONS = "convolutions"


def quantise(network: Any, samples: list[dict[str, np.ndarray]], scope: Scope) -> Any:
    """Quantise a copy of an `openvino.Model` with sample inputs of one cutout each.

    `EVERYTHING` quantises all layers that NNCF can. `CONVOLUTIONS` quantises only those, with more care: ranges span
    all values instead of the mean of the galaxies' ranges, which would clip bright galaxies, and the bias from rounding
    is measured after each layer. For the shipped network this raised the fraction of galaxies whose z_mean changes by
    less than 0.002 from 0.979 to 1. It takes minutes for large networks.
    """
    nncf = _import_nncf()
    data = nncf.Dataset(samples)
    # MIXED has asymmetric ranges for activations: with `inception`, z_mean stays the same for 0.82 of the galaxies,
    # with symmetric ranges for 0.64.
    options: dict[str, Any] = {"subset_size": len(samples), "preset": nncf.QuantizationPreset.MIXED}
    if scope is Scope.CONVOLUTIONS:
        minmax = nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX
        options |= {
            "fast_bias_correction": False,
            "ignored_scope": nncf.IgnoredScope(types=list(_KEPT_IN_FLOAT), validate=False),
            "advanced_parameters": nncf.AdvancedQuantizationParameters(activations_range_estimator_params=minmax),
        }
    with contextlib.redirect_stdout(io.StringIO()):  # a progress bar for each step
        return nncf.quantize(network.clone(), data, **options)


def _import_nncf() -> Any:
    """Import NNCF without its reports to Google Analytics, which need a package that `import_openvino` blocks."""
    import_openvino()
    import nncf
    from nncf.quantization import range_estimator  # noqa: F401 - an attribute of nncf from here on

    nncf.set_log_level(logging.ERROR)
    return nncf
