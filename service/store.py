"""Bundles in BentoML's model store, from which a bento takes its model: `python -m service store add models/photoz`.

A stored bundle is the folder `bundle` of a BentoML model, whose tag is made of the name and version of its card. A
bento is built with one tag, under the alias `bundle`.
"""

import os
import re
import shutil
import tempfile
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
    """Add a bundle to the store, and return its tag; raises `InvalidBundle` if the tag is another bundle's."""
    bundle = ModelBundle.load(path)
    tag = tag_of(bundle.card)
    stored = _stored(tag)
    if stored is None:
        _create(tag, bundle)
    elif ModelBundle.load(stored).card.digest != bundle.card.digest:
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
    """Return the folder of a stored bundle, of "photoz:latest" the one added last; raises `InvalidInput`."""
    folder = _stored(tag)
    if folder is None:
        raise InvalidInput(f"the model store has no bundle {tag}; `bentoml models list` lists the models in it")
    return folder


def of_bento(bento: Any) -> Path | None:
    """Return the folder of the bundle that a bento was built with, if any."""
    pinned = (str(model.tag) for model in bento.info.all_models if model.alias == ALIAS)
    tag = next(pinned, None)
    return find(tag) if tag else None


def tag_of(card: Card) -> str:
    """Return name and version as a tag: lower case, "-" for what BentoML forbids; raises `InvalidBundle`."""
    given = (card.name, card.version)
    name, version = (re.sub(r"[^-._a-z0-9]+", "-", text.lower())[:MAX_LENGTH].strip("-._") for text in given)
    if not name or not version or version == LATEST:
        raise InvalidBundle(f"{' '.join(given)} cannot be the name and the version of a model in the store")
    return f"{name}:{version}"


def _stored(tag: str) -> Path | None:
    """Return the folder of a stored bundle, None if it is not there; raises `InvalidInput` if it cannot be read."""
    try:
        model = bentoml.models.get(tag)
    except NotFound:
        return None
    except (BentoMLException, OSError) as error:  # no valid tag, an ambiguous prefix, an incomplete model
        raise InvalidInput(f"the model store: {' '.join(str(error).split())}") from error
    version, folder = tag.partition(":")[2], Path(model.path) / FOLDER
    # BentoML accepts a prefix of a version.
    return folder if version in (LATEST, model.tag.version) and folder.is_dir() else None


def _create(tag: str, bundle: ModelBundle) -> None:
    card = bundle.card
    labels = {"digest": card.digest, "architecture": card.architecture.name, "data": card.training.data_sha256}
    fields = {"name", "version", "created", "grid", "image", "inputs", "test", "caveats"}
    metadata = card.model_dump(mode="json", exclude_none=True, include=fields)
    with bentoml.models.create(tag, labels=labels, metadata=metadata) as model:
        shutil.copytree(bundle.path, model.path_of(FOLDER))
        Path(model.path).chmod(0o755)  # only the owner can read a temporary folder
