"""The model bundle: a folder that the training writes and the service reads.

::

    bundle/
      card.json       the model card, with the sha256 of every other file
      model.keras     the saved Keras classifier
      openvino/       the same network compiled, for serving without TensorFlow
      ood.npz         feature groups of the training images, for `photoz.ood`

A bundle whose schema or hashes do not agree is refused, with the reason.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from photoz.calibration import Calibration
from photoz.errors import InvalidBundle, counted, reason
from photoz.model.card import SCHEMA_VERSION, Card

CARD_NAME = "card.json"
KERAS_NAME = "model.keras"
OOD_NAME = "ood.npz"

MAX_CARD = 2**24  # bytes


@dataclass(frozen=True)
class ModelBundle:
    """A folder whose files agree with its card; made by `load` or `write`."""

    path: Path
    card: Card

    @property
    def keras_path(self) -> Path:
        """Path of the saved Keras classifier."""
        return self.path / KERAS_NAME

    @property
    def calibration(self) -> Calibration | None:
        """Recalibration of the network's PDFs, if the card has one."""
        return self.card.calibration.parameters if self.card.calibration else None

    @property
    def ood_path(self) -> Path:
        """Path of the feature groups of the training images."""
        return self.path / OOD_NAME

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ModelBundle":
        """Read a bundle; raises `InvalidBundle` if its files are not those that its card was sealed with."""
        folder = Path(path)
        card = _read_card(folder)
        _check_files(folder, card.files)
        if card.ood and OOD_NAME not in card.files:
            raise InvalidBundle(f"{folder} lacks {OOD_NAME}, which its card needs")
        return cls(folder, card)

    @classmethod
    def write(cls, path: str | os.PathLike[str], card: Card, source: str | os.PathLike[str]) -> "ModelBundle":
        """Write a bundle of a card, whose hashes are filled in, and the files of a folder, which stays as it is.

        All or nothing is written; an older bundle is replaced last. Raises `InvalidBundle` if the folder has no
        model.keras, the card could not be read back (a score that is NaN), or as `check_target`.
        """
        target = Path(path)
        check_target(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            folder = Path(scratch) / "new"
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns(CARD_NAME))
            folder.chmod(0o755)  # copied from a temporary folder, it would be unreadable to the user of the service
            if not (folder / KERAS_NAME).is_file():
                raise InvalidBundle(f"expected {KERAS_NAME} in {source}")
            sealed = card.sealed({name: _sha256(folder / name) for name in _file_names(folder)})
            (folder / CARD_NAME).write_text(sealed.model_dump_json(indent=2) + "\n", encoding="utf-8")
            card = cls.load(folder).card  # raises if it cannot be loaded, before anything is replaced
            if target.is_symlink() or target.exists():
                target.rename(Path(scratch) / "old")
            folder.rename(target)
        return cls(target, card)


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise `InvalidBundle` if a folder that a new bundle would replace holds other files than those of a bundle."""
    folder = Path(path)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        listed = set(_read_json(folder / CARD_NAME)["files"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidBundle(f"{folder} exists and is not a model bundle: choose another folder") from error
    if others := sorted(set(_file_names(folder)) - listed):
        raise InvalidBundle(f"{folder} holds files that are not of a model bundle, such as {others[0]}")


def _read_json(path: Path) -> Any:
    with path.open("rb") as file:
        content = file.read(MAX_CARD + 1)
    if len(content) > MAX_CARD:
        raise ValueError(f"expected at most {counted(MAX_CARD, 'byte')}")
    return json.loads(content)


def _read_card(folder: Path) -> Card:
    path = folder / CARD_NAME
    if path.exists() and not path.is_file():  # a pipe, which would wait for a writer
        raise InvalidBundle(f"{path} is not a file")
    try:
        content = _read_json(path)
    except FileNotFoundError as error:
        raise InvalidBundle(f"{folder} is not a model bundle: it holds no {CARD_NAME}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidBundle(f"{path} cannot be read: {reason(error)}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise InvalidBundle(f"{path} has schema version {version}; expected {SCHEMA_VERSION}")
    try:
        card = Card.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise InvalidBundle(f"{path} does not follow schema version {SCHEMA_VERSION}: {what}") from error
    if not card.is_sealed():
        raise InvalidBundle(f"{path} was changed after the bundle was sealed: its digest does not match")
    return card


def _check_files(folder: Path, expected: dict[str, str]) -> None:
    names = set(_file_names(folder))
    if missing := sorted(set(expected) - names):
        raise InvalidBundle(f"{folder} lacks {', '.join(missing)}")
    if extra := sorted(names - set(expected)):
        raise InvalidBundle(f"{folder} holds files that its card does not list: {', '.join(extra)}")
    for name, sha256 in expected.items():
        if _sha256(folder / name) != sha256:
            raise InvalidBundle(f"{folder / name} is not the file that the bundle was sealed with: its sha256 differs")


def _file_names(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(name for path in files if (name := path.relative_to(folder).as_posix()) != CARD_NAME)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
