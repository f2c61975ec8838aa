"""Checkpoints, so that a training run can be killed at any moment and resumed.

A run is a folder::

    run/
      settings.json     the hyper-parameters
      checkpoint/       of the last whole epoch: weights, optimizer and history; replaced atomically
      history.csv       one line per epoch
      tensorboard/      the same for TensorBoard
"""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from photoz.errors import InvalidDataset
from training.recipes import TrainingSettings


class CheckpointCallback(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Saves history, checkpoint and best weights after each epoch, and stops early."""

    def __init__(self, run: Path, settings: TrainingSettings, *, resume: bool) -> None:
        super().__init__()
        self.run, self.settings = run, settings
        self.history: list[dict[str, float]] = []
        self.best_weights: list[np.ndarray] = []
        self._folder = run / "checkpoint"
        if not resume:
            shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True, exist_ok=True)
        self._recover()
        self._check_settings()

    def _check_settings(self) -> None:
        path, expected = self.run / "settings.json", asdict(self.settings)
        if self._folder.exists() and json.loads(path.read_text()) != expected:
            raise InvalidDataset(f"{self.run} was started with other settings: resume with those in {path}")
        _write_text(path, json.dumps(expected, indent=2))

    def restore(self, model: keras.Model) -> int:
        """Restore a compiled model from the checkpoint; return the number of epochs that it was trained for."""
        if self._folder.exists():
            self.history = json.loads((self._folder / "history.json").read_text())
            model.optimizer.build(model.trainable_variables)
            for variable, value in zip(_state(model), _load(self._folder / "state.npz"), strict=True):
                variable.assign(value)
            self.best_weights = _load(self._folder / "best.npz")
        return len(self.history)

    def is_finished(self) -> bool:
        """Whether all epochs are done, or the last `patience` of them brought no progress."""
        n_epochs = len(self.history)
        return n_epochs >= self.settings.epochs or n_epochs - self._best_epoch() >= self.settings.patience

    def _best_epoch(self) -> int:
        """Return the number of the epoch with the lowest validation loss; without validation galaxies the last one."""
        losses = [epoch["val_loss"] for epoch in self.history if "val_loss" in epoch]
        return int(np.argmin(losses)) + 1 if losses else len(self.history)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the history and the checkpoint."""
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.history.append(
            {"epoch": epoch + 1, **{k: float(v) for k, v in (logs or {}).items()}, "learning_rate": rate}
        )
        if self._best_epoch() == len(self.history):
            self.best_weights = self._averaged_weights()
        self._save()
        self.model.stop_training = self.is_finished()

    def _averaged_weights(self) -> list[np.ndarray]:
        """Return the moving average of the weights, with which the validation loss was computed."""
        current = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        averaged: list[np.ndarray] = self.model.get_weights()
        self.model.set_weights(current)
        return averaged

    def _save(self) -> None:
        new = self.run / "checkpoint.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        np.savez(new / "state.npz", *[np.asarray(variable) for variable in _state(self.model)])
        np.savez(new / "best.npz", *self.best_weights)
        (new / "history.json").write_text(json.dumps(self.history))
        self._swap(new)
        lines = [",".join(self.history[0]), *(",".join(map(str, line.values())) for line in self.history)]
        _write_text(self.run / "history.csv", "\n".join(lines) + "\n")

    def _swap(self, new: Path) -> None:
        old = self.run / "checkpoint.old"
        shutil.rmtree(old, ignore_errors=True)
        if self._folder.exists():
            self._folder.rename(old)
        new.rename(self._folder)
        shutil.rmtree(old, ignore_errors=True)

    def _recover(self) -> None:
        """Put the old checkpoint back if the run was killed between the two renames of `_swap`."""
        old = self.run / "checkpoint.old"
        if old.exists() and not self._folder.exists():
            old.rename(self._folder)


def _state(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _load(path: Path) -> list[np.ndarray]:
    with np.load(path) as archive:
        return [archive[f"arr_{i}"] for i in range(len(archive.files))]


def _write_text(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(text)
    os.replace(scratch, path)
