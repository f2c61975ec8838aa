"""The recipes: what one asks of a training run."""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Settings:
    """What one asks of a training run: with the data, all that decides its result.

    Parameters
    ----------
    architecture : str
        "compact" or "inception".
    objective : str
        "crps" or "one-hot".
    batch_size, epochs : int
        Images a step, and at most so many passes.
    learning_rate : float
        At its highest: it warms up over two epochs and falls as a cosine.
    patience : int
        Epochs without a better validation loss before the run stops.
    seed : int
        Of everything.
    """

    architecture: str = "compact"
    objective: str = "crps"
    batch_size: int = 64
    epochs: int = 50
    learning_rate: float = 2e-3
    patience: int = 20
    seed: int = 0


# The document's own recipe for its network: 20 epochs of batches of 32 with Adam's usual rate, one-hot, no early stop.
DOCUMENT = Settings("inception", "one-hot", batch_size=32, epochs=20, learning_rate=1e-3, patience=20)


def settings_for(architecture: str, **changes: Any) -> Settings:
    """Return the recipe of an architecture, with changes.

    Parameters
    ----------
    architecture : str
        "compact" or "inception".
    **changes
        Fields of `Settings` that shall be other than usual.

    Returns
    -------
    Settings
        The recipe.
    """
    return replace(DOCUMENT if architecture == "inception" else Settings(architecture), **changes)
