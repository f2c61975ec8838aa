"""Network architectures: each file builds one Keras model, independently of how it is trained.

Every network consists of Keras's own layers and operations, so that `model.keras` loads without this project. It takes
`images` (n, size, size, n_bands) and possibly `ebv` (n, 1), and returns one probability for each redshift bin.
"""

import keras

from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from training.architectures.compact import build_compact
from training.architectures.inception import build_inception
from training.architectures.pasquet import build_pasquet
from training.pixel_statistics import PixelStatistics

ARCHITECTURES = ("compact", "inception", "pasquet")


def build(name: str, spec: ImageSpec, grid: RedshiftGrid, statistics: PixelStatistics) -> keras.Model:
    """Build one of `ARCHITECTURES`, untrained, with float32 outputs; "compact" has the statistics as constants."""
    match name:
        case "compact":
            return build_compact(spec, grid, statistics)
        case "inception":
            return build_inception(spec, grid)
        case "pasquet":
            return build_pasquet(spec, grid)
    raise ValueError(f"expected one of {', '.join(ARCHITECTURES)}, got {name!r}")


def takes_unknown_ebv(name: str) -> bool:
    """Whether an architecture accepts `photoz.images.UNKNOWN_EBV` as E(B-V)."""
    return name == "compact"


def takes_ebv(model: keras.Model) -> bool:
    """Whether a network has E(B-V) among its inputs."""
    return any(tensor.name == "ebv" for tensor in model.inputs)
