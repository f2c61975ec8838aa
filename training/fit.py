"""The training loop, and how it survives being killed.

A run is a folder::

    run/
      settings.json     what was asked for
      checkpoint/       of the last whole epoch: weights, optimizer and history; replaced at once, never half
      history.csv       one line an epoch
      tensorboard/      the same for TensorBoard

Everything that a resumed run needs is in the checkpoint, so a run may be killed at any moment.
"""

import csv
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from photoz.datasets import TRAIN, VALIDATION, Cutouts
from photoz.errors import InvalidDataset
from photoz.grid import IntArray, RedshiftGrid
from photoz.images import ImageSpec
from training import architectures
from training.batches import Batches
from training.objectives import objective
from training.pixel_statistics import PixelStatistics, pixel_statistics
from training.rows import usable_rows

EMA_MOMENTUM = 0.995
WEIGHT_DECAY = 1e-3
CLIP_NORM = 1.0
WARM_UP_EPOCHS = 2


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
    epochs: int = 60
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


@dataclass(frozen=True)
class Fitted:
    """A trained network and how it came to be.

    Parameters
    ----------
    model : keras.Model
        With the weights of the epoch with the lowest validation loss, not compiled.
    history : list of dict
        One entry an epoch.
    ebv_assumed : float
        Median E(B-V) of the training galaxies.
    n_train, n_validation : int
        Galaxies.
    """

    model: keras.Model
    history: list[dict[str, float]]
    ebv_assumed: float
    n_train: int
    n_validation: int


def fit(
    cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid, settings: Settings, run: Path, *, resume: bool
) -> Fitted:
    """Train a network.

    Parameters
    ----------
    cutouts : Cutouts
        Open, with columns z_spec and split; images stream from it.
    spec : ImageSpec
        What the images are.
    grid : RedshiftGrid
        The bins to be predicted.
    settings : Settings
        The recipe.
    run : Path
        Folder of the run.
    resume : bool
        Go on from the checkpoint in `run`, if there is one; otherwise the folder is emptied first.

    Returns
    -------
    Fitted
        The network with its best weights.
    """
    train, validation = (usable_rows(cutouts, grid, split) for split in (TRAIN, VALIDATION))
    keras.utils.set_random_seed(settings.seed)
    ebv_assumed, statistics = _constants(cutouts, train, spec)
    model = architectures.build(settings.architecture, spec, grid, statistics)
    target = objective(settings.objective, grid)
    common: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "with_ebv": architectures.takes_ebv(model),
        "ebv_assumed": ebv_assumed,
    }
    steps = -(-len(train) // settings.batch_size)
    model.compile(optimizer=_optimizer(settings, steps), loss=target.loss)
    keeper = _Keeper(run, settings, resume=resume)
    first_epoch = keeper.restore(model)
    if not keeper.is_finished():
        model.fit(
            Batches(cutouts, train, spec, target, **common, seed=settings.seed, first_epoch=first_epoch),
            validation_data=Batches(cutouts, validation, spec, target, **common),
            initial_epoch=first_epoch,
            epochs=settings.epochs,
            callbacks=[keras.callbacks.SwapEMAWeights(), keeper, keras.callbacks.TensorBoard(run / "tensorboard")],
        )
    best = architectures.build(settings.architecture, spec, grid, statistics)
    best.set_weights(keeper.best_weights)
    return Fitted(best, keeper.history, ebv_assumed, len(train), len(validation))


def _constants(cutouts: Cutouts, train: IntArray, spec: ImageSpec) -> tuple[float, PixelStatistics]:
    ebv = np.asarray(cutouts.columns.get("ebv", np.full(len(cutouts), np.nan)), dtype=np.float64)
    known = ebv[train][np.isfinite(ebv[train])]
    ebv_assumed = float(np.median(known)) if len(known) else 0.0
    filled = np.where(np.isfinite(ebv), ebv, ebv_assumed)
    return ebv_assumed, pixel_statistics(cutouts.images, filled, train, spec)


def _optimizer(settings: Settings, steps: int) -> keras.optimizers.Optimizer:
    warm_up = min(WARM_UP_EPOCHS, max(settings.epochs - 1, 0)) * steps
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warm_up else settings.learning_rate,
        max(settings.epochs * steps - warm_up, 1),
        alpha=0.01,
        warmup_target=settings.learning_rate if warm_up else None,
        warmup_steps=warm_up,
    )
    return keras.optimizers.AdamW(
        schedule, weight_decay=WEIGHT_DECAY, clipnorm=CLIP_NORM, use_ema=True, ema_momentum=EMA_MOMENTUM
    )


class _Keeper(keras.callbacks.Callback):
    """Keeps history, checkpoint and best weights, and stops early: all from what is on disk."""

    def __init__(self, run: Path, settings: Settings, *, resume: bool) -> None:
        super().__init__()
        self.run, self.settings = run, settings
        self.history: list[dict[str, float]] = []
        self.best_weights: list[np.ndarray] = []
        self._folder = run / "checkpoint"
        if not resume:
            shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True, exist_ok=True)
        self._agree_on_settings()

    def _agree_on_settings(self) -> None:
        path, wanted = self.run / "settings.json", json.dumps(asdict(self.settings), indent=2)
        if self._folder.exists() and path.read_text() != wanted:
            raise InvalidDataset(f"{self.run} was begun with other settings: resume with those in {path}")
        _write_text(path, wanted)

    def restore(self, model: keras.Model) -> int:
        """Bring a compiled model to the state of the checkpoint; return the number of epochs that it has seen."""
        self._recover()
        if self._folder.exists():
            self.history = json.loads((self._folder / "history.json").read_text())
            model.optimizer.build(model.trainable_variables)
            _assign(_state(model), _load(self._folder / "state.npz"))
            self.best_weights = _load(self._folder / "best.npz")
        return len(self.history)

    def is_finished(self) -> bool:
        """Whether there is nothing left to train: all epochs seen, or no progress for too long."""
        losses = [epoch["val_loss"] for epoch in self.history]
        since_best = len(losses) - 1 - int(np.argmin(losses)) if losses else 0
        return len(losses) >= self.settings.epochs or since_best >= self.settings.patience

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Take note of the epoch and write the checkpoint."""
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.history.append(
            {"epoch": epoch + 1, **{k: float(v) for k, v in (logs or {}).items()}, "learning_rate": rate}
        )
        losses = [entry["val_loss"] for entry in self.history]
        if np.argmin(losses) == len(losses) - 1:
            self.best_weights = self._averaged_weights()
        self._save()
        self.model.stop_training = self.is_finished()

    def _averaged_weights(self) -> list[np.ndarray]:
        """Weights averaged over the last steps: the ones that the validation loss was measured with."""
        present = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        averaged = self.model.get_weights()
        self.model.set_weights(present)
        return averaged

    def _save(self) -> None:
        new = self.run / "checkpoint.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        _store(new / "state.npz", [np.asarray(variable) for variable in _state(self.model)])
        _store(new / "best.npz", self.best_weights)
        (new / "history.json").write_text(json.dumps(self.history))
        self._swap(new)
        _write_csv(self.run / "history.csv", self.history)

    def _swap(self, new: Path) -> None:
        old = self.run / "checkpoint.old"
        shutil.rmtree(old, ignore_errors=True)
        if self._folder.exists():
            self._folder.rename(old)
        new.rename(self._folder)
        shutil.rmtree(old, ignore_errors=True)

    def _recover(self) -> None:
        """If the run was killed between the two renames of a swap, the old checkpoint is the whole one."""
        old = self.run / "checkpoint.old"
        if old.exists() and not self._folder.exists():
            old.rename(self._folder)


def _state(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _assign(variables: list[Any], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _store(path: Path, arrays: list[np.ndarray]) -> None:
    np.savez(path, *arrays)


def _load(path: Path) -> list[np.ndarray]:
    with np.load(path) as archive:
        return [archive[f"arr_{i}"] for i in range(len(archive.files))]


def _write_text(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(text)
    os.replace(scratch, path)


def _write_csv(path: Path, history: list[dict[str, float]]) -> None:
    scratch = path.with_name(f".{path.name}")
    with scratch.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    os.replace(scratch, path)
