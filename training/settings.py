"""The recipes: what one asks of a training run."""

from dataclasses import dataclass, replace
from typing import Any

PRECISIONS = ("float32", "mixed_bfloat16")

SCHEDULES = ("cosine", "constant", "halfway-fifth")


@dataclass(frozen=True)
class Settings:
    """What one asks of a training run: with the data, all that decides its result.

    Parameters
    ----------
    architecture : str
        "compact", "inception" or "pasquet".
    objective : str
        "crps" or "one-hot".
    batch_size, epochs : int
        Images a step, and at most so many passes.
    learning_rate : float
        At its highest.
    patience : int
        Epochs without a better validation loss before the run stops.
    seed : int
        Of everything.
    schedule : str
        "cosine": the rate warms up over a twelfth of the steps and falls as a cosine. "constant": it stays.
        "halfway-fifth": it is divided by five after half of the steps.
    weight_decay : float
        Of AdamW; 0 is Adam.
    clip_norm : float
        Largest norm of a gradient; 0 for any.
    ema_momentum : float
        Of the average of the weights over the last steps, which is what is kept; 0 keeps the weights themselves.
    precision : str
        Keras's dtype policy while training: "mixed_bfloat16" keeps weights and PDFs float32 and multiplies in bfloat16,
        in two thirds of the time where processors have it. Not for "compact": its sums of fluxes need float32.
    seeds : int
        Networks whose PDFs are averaged, trained with this seed, the next one and so on.
    folds : int
        Folds of cross-fitting, which trains the recipe once more for each (`training.held_out`); 0 for none.
    select : str
        Conditions on columns that a galaxy has to meet, such as "dered_petro_r<=17.8,z_spec<=0.4"; "" for none.
    shares : str
        Galaxies to train, validate and test on, such as "393219,20000,103305": that many, or in that proportion if
        there are more or fewer; "" for the split of the file.
    """

    architecture: str = "compact"
    objective: str = "crps"
    batch_size: int = 64
    epochs: int = 24
    learning_rate: float = 2e-3
    patience: int = 24
    seed: int = 0
    schedule: str = "cosine"
    weight_decay: float = 1e-3
    clip_norm: float = 1.0
    ema_momentum: float = 0.995
    precision: str = "float32"
    seeds: int = 1
    folds: int = 0
    select: str = ""
    shares: str = ""

    def __post_init__(self) -> None:
        if self.precision != "float32" and self.architecture == "compact":
            raise ValueError(f"compact sums fluxes, which needs precision float32; got {self.precision}")


# The document's epochs, batches and rate for its network, one-hot, no early stop; with our schedule.
DOCUMENT = Settings("inception", "one-hot", batch_size=32, epochs=20, learning_rate=1e-3, patience=20)

# Adam as the document has it: a constant rate and nothing else.
PLAIN_ADAM: dict[str, Any] = {"schedule": "constant", "weight_decay": 0.0, "clip_norm": 0.0, "ema_momentum": 0.0}

# Pasquet et al. 2019. docs/training.md says where each number comes from.
PASQUET = replace(
    Settings("pasquet", "one-hot", batch_size=128, epochs=39, learning_rate=1e-4, patience=39),
    **{**PLAIN_ADAM, "schedule": "halfway-fifth"},
)

BY_ARCHITECTURE = {"compact": Settings(), "inception": DOCUMENT, "pasquet": PASQUET}

PRESETS = {
    "document": replace(DOCUMENT, **PLAIN_ADAM),
    "pasquet2019": replace(PASQUET, seeds=6, select="dered_petro_r<=17.8,z_spec<=0.4", shares="393219,20000,103305"),
}


def settings_for(architecture: str | None = None, preset: str | None = None, **changes: Any) -> Settings:
    """Return a recipe, with changes.

    Parameters
    ----------
    architecture : str, optional
        "compact", "inception" or "pasquet"; without, that of the preset, or "compact".
    preset : str, optional
        One of `PRESETS`; without, the recipe of the architecture.
    **changes
        Fields of `Settings` that shall be other than usual.

    Returns
    -------
    Settings
        The recipe.
    """
    if preset is None:
        return replace(BY_ARCHITECTURE[architecture or "compact"], **changes)
    return replace(PRESETS[preset], **({"architecture": architecture} if architecture else {}), **changes)
