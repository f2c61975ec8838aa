"""Bundles in BentoML's model store, from which a bento takes its model: `python -m service store add models/photoz`.

A stored bundle is the folder `bundle` of a BentoML model, whose tag is made of the name and version of its card. A
bento is built with one tag, under the alias `bundle`.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bentoml
import yaml
from bentoml.exceptions import BentoMLException, NotFound

from photoz.errors import InvalidBundle, InvalidInput
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card
from service.settings import ROOT

FOLDER = "bundle"
ALIAS = "bundle"

LATEST = "latest"
MAX_LENGTH = 63  # of a name or a version in a tag of BentoML's


def add(path: str | os.PathLike[str]) -> str:
    """Add a bundle to the store, if it is not there, and return its tag, such as "photoz:2026.11.24-172738".

    Raises `InvalidBundle` if it cannot be used, or another one is stored under its tag.
    """
    bundle = ModelBundle.load(path)
    tag = tag_of(bundle.card)
    try:
        stored = _stored(tag)
    except NotFound:
        _create(tag, bundle)
    else:
        if ModelBundle.load(stored).card.digest != bundle.card.digest:
            raise InvalidBundle(f"another bundle is stored as {tag}: give {path} a version of its own")
    return tag


def build(path: str | os.PathLike[str]) -> str:
    """Add a bundle to the store, build a bento that serves it, and return the bento's tag; raises as `add`."""
    recipe = yaml.safe_load((ROOT / "bentofile.yaml").read_text(encoding="utf-8"))
    recipe["models"] = [{"tag": add(path), "alias": ALIAS}]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(recipe, file)
        file.flush()
        try:
            return str(bentoml.bentos.build_bentofile(file.name, build_ctx=str(ROOT)).tag)
        except BentoMLException as error:
            raise InvalidBundle(f"BentoML cannot build the bento: {error}") from error


def find(tag: str) -> Path:
    """Return the folder of a stored bundle; "photoz:latest" is the one that was added last.

    Raises `InvalidInput` if it is not stored, with the tags of those that are.
    """
    try:
        return _stored(tag)
    except NotFound:
        raise InvalidInput(f"the model store has no bundle {tag}; it has {', '.join(tags()) or 'none'}") from None


def of_bento(bento: Any) -> Path | None:
    """Return the folder of the bundle that a bento was built with, if any."""
    pinned = (str(model.tag) for model in bento.info.all_models if model.alias == ALIAS)
    tag = next(pinned, None)
    return find(tag) if tag else None


def tags() -> list[str]:
    """Return the tags of all bundles in the store."""
    with _one_line_errors():
        return [str(model.tag) for model in bentoml.models.list() if (Path(model.path) / FOLDER).is_dir()]


def tag_of(card: Card) -> str:
    """Return the name and version of a model as a tag: lower case, with "-" for characters that BentoML forbids.

    Raises `InvalidBundle` if nothing is left of one of them, or the version is "latest".
    """
    name, version = (re.sub(r"[^-._a-z0-9]+", "-", text.lower())[:MAX_LENGTH].strip("-._") for text in _named(card))
    if not name or not version or version == LATEST:
        raise InvalidBundle(f"{' '.join(_named(card))} cannot be the name and the version of a model in the store")
    return f"{name}:{version}"


def _named(card: Card) -> tuple[str, str]:
    return card.name, card.version


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn BentoML's errors into `InvalidInput` with one line; `NotFound` passes through."""
    try:
        yield
    except NotFound:
        raise
    except (BentoMLException, OSError) as error:  # no valid tag, an ambiguous prefix, an incomplete model
        raise InvalidInput(f"the model store: {' '.join(str(error).split())}") from error


def _stored(tag: str) -> Path:
    with _one_line_errors():
        model = bentoml.models.get(tag)
    version, folder = tag.partition(":")[2], Path(model.path) / FOLDER
    if version not in (LATEST, model.tag.version) or not folder.is_dir():  # BentoML accepts a prefix of a version
        raise NotFound(tag)
    return folder


def _create(tag: str, bundle: ModelBundle) -> None:
    card = bundle.card
    labels = {"digest": card.digest, "architecture": card.architecture.name, "data": card.training.data_sha256}
    with bentoml.models.create(tag, labels=labels, metadata=_metadata(card)) as model:
        shutil.copytree(bundle.path, model.path_of(FOLDER))
        Path(model.path).chmod(0o755)  # only the owner can read a temporary folder


def _metadata(card: Card) -> dict[str, Any]:
    content = card.model_dump(
        mode="json", exclude_none=True, include={"created", "grid", "image", "inputs", "test", "caveats"}
    )
    return {"name": card.name, "version": card.version, **content}
