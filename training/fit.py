"""The training loop: batches from disk, an optimizer with a schedule, and the best weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.images import UNKNOWN_EBV, ImageSpec
from photoz.io.cutouts import TRAIN, VALIDATION, Cutouts
from training import architectures
from training.batches import Augmentation, Batches
from training.checkpoint import TENSORBOARD, CheckpointCallback
from training.objectives import objective
from training.pixel_statistics import pixel_statistics
from training.recipes import SCHEDULES, TrainingSettings
from training.splits import numbers, usable_rows

WARM_UP = 1 / 12  # of all steps


@dataclass(frozen=True)
class Fitted:
    """A trained network and how it was trained."""

    network: keras.Model  # not compiled
    history: list[dict[str, float]]  # one entry for each epoch
    ebv_default: float  # replaces an unknown E(B-V): UNKNOWN_EBV, or the median of the training galaxies
    z_range: tuple[float, float]  # the lowest and the highest redshift of the training galaxies
    n_train: int
    n_validation: int


def fit(
    cutouts: Cutouts,
    spec: ImageSpec,
    grid: RedshiftGrid,
    settings: TrainingSettings,
    run: Path,
    *,
    resume: bool,
) -> Fitted:
    """Train a network on cutouts with columns z_spec and split; validation galaxies are optional.

    With `resume`, continue from the checkpoint in the folder `run` if there is one; otherwise empty the folder first.
    The result has the weights of the epoch with the lowest validation loss or, without validation galaxies, of the last
    epoch.
    """
    train = usable_rows(cutouts, grid, TRAIN)
    keras.utils.set_random_seed(settings.seed)
    statistics = pixel_statistics(cutouts, train, spec)
    ebv_default = UNKNOWN_EBV if architectures.takes_unknown_ebv(settings.architecture) else statistics.ebv
    with _dtype_policy(settings):
        model = architectures.build(settings.architecture, spec, grid, statistics)
    checkpoint = train_network(
        model, cutouts, spec, grid, settings, run, noise=statistics.noise, ebv_default=ebv_default, resume=resume
    )
    best = architectures.build(settings.architecture, spec, grid, statistics)
    best.set_weights(checkpoint.best_weights)
    n_validation = len(_validation_rows(cutouts, grid))
    return Fitted(best, checkpoint.history, ebv_default, _z_range(cutouts, train), len(train), n_validation)


def train_network(
    model: keras.Model,
    cutouts: Cutouts,
    spec: ImageSpec,
    grid: RedshiftGrid,
    settings: TrainingSettings,
    run: Path,
    *,
    noise: FloatArray,
    ebv_default: float,
    resume: bool,
) -> CheckpointCallback:
    """Train a network from its weights on, as for `fit`; `noise` (n_bands,) of the sky is that of `pixel_statistics`.

    Returns the checkpoint with the history and the best weights; those of the network are the last ones.
    """
    train, validation = usable_rows(cutouts, grid, TRAIN), _validation_rows(cutouts, grid)
    target = objective(settings.objective, grid)

    def batches(rows: IntArray, **options: Any) -> Batches:
        return Batches(
            cutouts,
            rows,
            spec,
            target.encode(numbers(cutouts, "z_spec", rows)),
            batch_size=settings.batch_size,
            with_ebv=architectures.takes_ebv(model),
            ebv_default=ebv_default,
            **options,
        )

    model.compile(optimizer=_optimizer(settings, -(-len(train) // settings.batch_size)), loss=target.loss)
    checkpoint = CheckpointCallback(run, settings, resume=resume)
    first_epoch = checkpoint.restore(model)
    augmentation = Augmentation(settings.seed, noise, settings.defects, settings.unknown_ebv)
    training = batches(train, augmentation=augmentation, first_epoch=first_epoch)
    _run(model, training, batches(validation) if len(validation) else None, checkpoint)
    return checkpoint


def _validation_rows(cutouts: Cutouts, grid: RedshiftGrid) -> IntArray:
    """Return the validation galaxies, which may be none; raises `InvalidDataset` if none of them is on the grid."""
    rows = cutouts.rows(VALIDATION)
    return usable_rows(cutouts, grid, VALIDATION) if len(rows) else rows


def _z_range(cutouts: Cutouts, rows: IntArray) -> tuple[float, float]:
    z_spec = numbers(cutouts, "z_spec", rows)
    return float(z_spec.min()), float(z_spec.max())


def _run(model: keras.Model, training: Batches, validation: Batches | None, checkpoint: CheckpointCallback) -> None:
    """Train a compiled model from its checkpoint on."""
    if checkpoint.is_finished():
        return
    # With an average of the weights, that is what is validated.
    averaging = [keras.callbacks.SwapEMAWeights()] if checkpoint.settings.ema_momentum else []
    model.fit(
        training,
        validation_data=validation,
        initial_epoch=training.epoch,
        epochs=checkpoint.settings.epochs,
        callbacks=[*averaging, checkpoint, keras.callbacks.TensorBoard(checkpoint.run / TENSORBOARD)],
        shuffle=False,  # the order of the batches is theirs, also in a run that is resumed
    )


@contextmanager
def _dtype_policy(settings: TrainingSettings) -> Iterator[None]:
    """Make Keras build layers with the precision of the settings."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(settings.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def _optimizer(settings: TrainingSettings, steps: int) -> keras.optimizers.Optimizer:
    return keras.optimizers.AdamW(
        _schedule(settings, steps),
        weight_decay=settings.weight_decay,
        clipnorm=settings.clip_norm or None,
        use_ema=bool(settings.ema_momentum),
        ema_momentum=settings.ema_momentum or 0.99,  # must be valid even if unused
    )


def _schedule(settings: TrainingSettings, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    rate = settings.learning_rate
    match settings.schedule:
        case "cosine":
            return _warm_up_and_cosine(settings, steps)
        case "constant":
            return rate
        case "halfway-fifth":
            return keras.optimizers.schedules.PiecewiseConstantDecay([settings.epochs * steps // 2], [rate, rate / 5])
    raise ValueError(f"expected one of {', '.join(SCHEDULES)}, got {settings.schedule!r}")


def _warm_up_and_cosine(settings: TrainingSettings, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    warm_up = round(WARM_UP * settings.epochs * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warm_up else settings.learning_rate,
        max(settings.epochs * steps - warm_up, 1),
        alpha=0.01,
        warmup_target=settings.learning_rate if warm_up else None,
        warmup_steps=warm_up,
    )
