"""OpenVINO, imported in the one way that both training and service want it."""

import sys
from typing import Any


def import_openvino() -> Any:
    """Import OpenVINO without the part of it that reports each import to Google Analytics.

    It does so at its import, through a child process and for up to three seconds, unless its telemetry is not there.
    Only those who call this need OpenVINO.

    Returns
    -------
    module
        `openvino`.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino  # type: ignore[import-untyped]

    return openvino
