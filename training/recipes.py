"""Hyper-parameters of a training run, and the recipes that set them."""

from dataclasses import dataclass, replace
from typing import Any

PRECISIONS = ("float32", "mixed_bfloat16")

SCHEDULES = ("cosine", "constant", "halfway-fifth")


@dataclass(frozen=True)
class TrainingSettings:
    """Hyper-parameters of a training run: together with the data, they determine its result."""

    architecture: str = "compact"  # or "inception", "pasquet"
    objective: str = "crps"  # or "one-hot"
    batch_size: int = 64
    epochs: int = 24  # maximum
    learning_rate: float = 2e-3  # maximum
    patience: int = 24  # epochs without a lower validation loss before the run stops
    seed: int = 0
    schedule: str = "cosine"  # after a warm-up; "constant"; or "halfway-fifth", a fifth after half of the steps
    weight_decay: float = 1e-3  # of AdamW; 0 is Adam
    clip_norm: float = 1.0  # largest norm of a gradient; 0 for no limit
    ema_momentum: float = 0.995  # of the moving average of the weights; 0 for no average
    # Keras's dtype policy. "mixed_bfloat16", with weights and PDFs in float32 and products in bfloat16, takes two
    # thirds of the time on processors that support it.
    precision: str = "float32"
    seeds: int = 1  # networks whose PDFs are averaged, trained with `seed`, `seed` + 1 and so on
    folds: int = 0  # of cross-fitting; 0 for none
    defects: float = 0.0  # fraction of the training cutouts with a defect of real frames (`training.defects`)
    unknown_ebv: float = 0.0  # fraction of them whose E(B-V) is dropped; for networks that accept an unknown one
    select: str = ""  # conditions on columns, such as "dered_petro_r<=17.8,z_spec<=0.4"
    shares: str = ""  # galaxies to train, validate and test on, such as "0.7,0.1,0.2"; "" for the split of the file

    def __post_init__(self) -> None:
        if self.precision != "float32" and self.architecture == "compact":
            raise ValueError(f"compact sums fluxes, which needs precision float32; got {self.precision}")


# One-hot without early stopping, with our schedule.
INCEPTION = TrainingSettings("inception", "one-hot", batch_size=32, epochs=20, learning_rate=1e-3, patience=20)

# Adam at a constant rate and nothing else.
PLAIN_ADAM: dict[str, Any] = {"schedule": "constant", "weight_decay": 0.0, "clip_norm": 0.0, "ema_momentum": 0.0}

# Pasquet et al. 2019. docs/training.md gives the source of each number.
PASQUET = replace(
    TrainingSettings("pasquet", "one-hot", batch_size=128, epochs=39, learning_rate=1e-4, patience=39),
    **{**PLAIN_ADAM, "schedule": "halfway-fifth"},
)

COMPACT = TrainingSettings(defects=0.3, unknown_ebv=0.1)

BY_ARCHITECTURE = {"compact": COMPACT, "inception": INCEPTION, "pasquet": PASQUET}

PRESETS = {
    "inception": replace(INCEPTION, **PLAIN_ADAM),
    "pasquet2019": replace(PASQUET, seeds=6, select="dered_petro_r<=17.8,z_spec<=0.4", shares="393219,20000,103305"),
}


def settings_for(architecture: str | None = None, preset: str | None = None, **changes: Any) -> TrainingSettings:
    """Return the recipe of a preset or, without one, of an architecture (by default "compact"), with changes."""
    if preset is None:
        return replace(BY_ARCHITECTURE[architecture or "compact"], **changes)
    if architecture is not None:
        changes["architecture"] = architecture
    return replace(PRESETS[preset], **changes)
