"""Checkpoints, so that a training run can be killed at any moment and resumed.

A run is a folder::

    run/
      settings.json     the hyper-parameters
      checkpoint.npz    weights, optimizer and history after the last whole epoch, and the best weights
      history.csv       one line for each epoch
      tensorboard/      the same for TensorBoard
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from training.recipes import TrainingSettings

TENSORBOARD = "tensorboard"
FILES = ("settings.json", "checkpoint.npz", "history.csv", TENSORBOARD)


class CheckpointCallback(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Saves history, checkpoint and best weights after each epoch, and stops early."""

    def __init__(self, run: Path, settings: TrainingSettings, *, resume: bool) -> None:
        super().__init__()
        self.run, self.settings = run, settings
        self.history: list[dict[str, float]] = []
        self.best_weights: list[npt.NDArray[Any]] = []
        self._path = run / "checkpoint.npz"
        run.mkdir(parents=True, exist_ok=True)
        if not resume:
            _clear(run)
        elif links := [name for name in FILES if (run / name).is_symlink()]:
            raise InvalidDataset(f"{run / links[0]} is a link: expected the folder of a run, which has none")
        path, expected = run / "settings.json", asdict(settings)
        if self._path.exists() and json.loads(path.read_text()) != expected:
            raise InvalidDataset(f"{run} was started with other settings: resume with those in {path}")
        _write_text(path, json.dumps(expected, indent=2))

    def restore(self, model: keras.Model) -> int:
        """Restore a compiled model from the checkpoint; return the number of epochs that it was trained for."""
        if self._path.exists():
            model.optimizer.build(model.trainable_variables)
            with np.load(self._path) as arrays:
                self.history = json.loads(str(arrays["history"]))
                for number, variable in enumerate(_state(model)):
                    variable.assign(arrays[f"state-{number}"])
                self.best_weights = [arrays[f"best-{number}"] for number in range(len(model.weights))]
        return len(self.history)

    def is_finished(self) -> bool:
        """Whether all epochs are done, or the last `patience` of them brought no progress."""
        n_epochs = len(self.history)
        return n_epochs >= self.settings.epochs or n_epochs - self._best_epoch() >= self.settings.patience

    def _best_epoch(self) -> int:
        """Return the number of the epoch with the lowest validation loss or, without validation galaxies, the last."""
        losses = [epoch["val_loss"] for epoch in self.history if "val_loss" in epoch]
        return int(np.argmin(losses)) + 1 if losses else len(self.history)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the history and the checkpoint."""
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        losses = {name: float(value) for name, value in (logs or {}).items()}
        self.history.append({"epoch": epoch + 1, **losses, "learning_rate": rate})
        if self._best_epoch() == len(self.history):
            self.best_weights = self._averaged_weights()
        self._save()
        self.model.stop_training = self.is_finished()

    def _averaged_weights(self) -> list[npt.NDArray[Any]]:
        """Return the moving average of the weights, with which the validation loss was computed."""
        current = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        averaged: list[npt.NDArray[Any]] = self.model.get_weights()
        self.model.set_weights(current)
        return averaged

    def _save(self) -> None:
        arrays: dict[str, Any] = {"history": np.array(json.dumps(self.history))}
        arrays |= {f"state-{number}": np.asarray(variable) for number, variable in enumerate(_state(self.model))}
        arrays |= {f"best-{number}": weights for number, weights in enumerate(self.best_weights)}
        with _replacing(self._path) as file:
            np.savez(file, **arrays)
        lines = [",".join(self.history[0]), *(",".join(map(str, line.values())) for line in self.history)]
        _write_text(self.run / "history.csv", "\n".join(lines) + "\n")


def _state(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _clear(run: Path) -> None:
    """Remove what a run has written before, but no other files: any folder may be named as that of a run."""
    for name in FILES:
        with suppress(FileNotFoundError, NotADirectoryError):
            if name == TENSORBOARD and not (run / name).is_symlink():
                shutil.rmtree(run / name)
            else:
                (run / name).unlink()


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that gets its name when it is complete; a link in its way is not followed."""
    scratch = path.with_name(f".{path.name}")
    scratch.unlink(missing_ok=True)
    with scratch.open("xb") as file:
        yield file
    os.replace(scratch, path)


def _write_text(path: Path, text: str) -> None:
    with _replacing(path) as file:
        file.write(text.encode())
