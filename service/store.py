"""Bundles in BentoML's model store, where a bento has its model from: `python -m service.store add models/photoz`.

A bundle is the folder `bundle` of a model there, whose tag is made of the name and the version on its card; BentoML
keeps a file of its own beside it. A bento names one tag, under the alias `bundle`, and stays with it.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bentoml
import yaml
from bentoml.exceptions import BentoMLException, NotFound

from photoz.errors import InvalidBundle, InvalidInput, PhotozError
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card
from service.settings import ROOT

FOLDER = "bundle"
ALIAS = "bundle"

LATEST = "latest"
LONGEST = 63  # characters of a name or a version in a tag of BentoML's


def add(path: str | os.PathLike[str]) -> str:
    """Put a bundle into the store.

    Parameters
    ----------
    path : path-like
        Its folder.

    Returns
    -------
    str
        Its tag, such as "photoz:2026.11.24-172738"; the same again, where that bundle is there already.

    Raises
    ------
    InvalidBundle
        If it cannot be trusted, or another one is there under its tag.
    """
    bundle = ModelBundle.load(path)
    tag = tag_of(bundle.card)
    try:
        stored = _stored(tag)
    except NotFound:
        _create(tag, bundle)
    else:
        if ModelBundle.load(stored).card.digest != bundle.card.digest:
            raise InvalidBundle(f"another bundle is in the model store as {tag}: give {path} a version of its own")
    return tag


def build(path: str | os.PathLike[str]) -> str:
    """Put a bundle into the store and build a bento that serves it, whatever is newer there; returns the bento's tag.

    Raises
    ------
    InvalidBundle
        As `add` does, or if BentoML cannot build it.
    """
    recipe = yaml.safe_load((ROOT / "bentofile.yaml").read_text(encoding="utf-8"))
    recipe["models"] = [{"tag": add(path), "alias": ALIAS}]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(recipe, file)
        file.flush()
        try:
            return str(bentoml.bentos.build_bentofile(file.name, build_ctx=str(ROOT)).tag)
        except BentoMLException as error:
            raise InvalidBundle(f"no bento can be built: {error}") from error


def find(tag: str) -> Path:
    """Return the folder of a bundle in the store.

    Parameters
    ----------
    tag : str
        Such as "photoz:2026.11.24-172738" or "photoz:latest", which is the one that was put there last.

    Raises
    ------
    InvalidInput
        If it is not there, with the tags of those that are.
    """
    try:
        return _stored(tag)
    except NotFound:
        raise InvalidInput(f"the model store has no bundle {tag}; it has {', '.join(tags()) or 'none'}") from None


def of_bento(bento: Any) -> Path | None:
    """Return the folder of the bundle that a bento was built with, None for one that names none."""
    pinned = (str(model.tag) for model in bento.info.all_models if model.alias == ALIAS)
    tag = next(pinned, None)
    return find(tag) if tag else None


def tags() -> list[str]:
    """Return the tags of all bundles in the store."""
    with _told():
        return [str(model.tag) for model in bentoml.models.list() if (Path(model.path) / FOLDER).is_dir()]


def tag_of(card: Card) -> str:
    """Return the name and the version of a model as a tag of BentoML's: lower case, with "-" for what may not be there.

    Raises
    ------
    InvalidBundle
        If nothing is left of one of them, or the version is "latest".
    """
    name, version = (re.sub(r"[^-._a-z0-9]+", "-", text.lower())[:LONGEST].strip("-._") for text in _named(card))
    if not name or not version or version == LATEST:
        raise InvalidBundle(f"{' '.join(_named(card))} cannot be the name and the version of a model in the store")
    return f"{name}:{version}"


def _named(card: Card) -> tuple[str, str]:
    return card.name, card.version


@contextmanager
def _told() -> Iterator[None]:
    """Tell what BentoML has against the store in one line; that something is not there is for others to tell."""
    try:
        yield
    except NotFound:
        raise
    except (BentoMLException, OSError) as error:  # such as no tag, the beginning of several, a model half written
        raise InvalidInput(f"the model store: {' '.join(str(error).split())}") from error


def _stored(tag: str) -> Path:
    with _told():
        model = bentoml.models.get(tag)
    version, folder = tag.partition(":")[2], Path(model.path) / FOLDER
    if version not in (LATEST, model.tag.version) or not folder.is_dir():  # BentoML takes the beginning of a version
        raise NotFound(tag)
    return folder


def _create(tag: str, bundle: ModelBundle) -> None:
    card = bundle.card
    labels = {"digest": card.digest, "architecture": card.architecture.name, "data": card.training.data_sha256}
    with bentoml.models.create(tag, labels=labels, metadata=_metadata(card)) as model:
        shutil.copytree(bundle.path, model.path_of(FOLDER))
        Path(model.path).chmod(0o755)  # a temporary folder is its owner's alone


def _metadata(card: Card) -> dict[str, Any]:
    content = card.model_dump(
        mode="json", exclude_none=True, include={"created", "grid", "image", "inputs", "test", "caveats"}
    )
    return {"name": card.name, "version": card.version, **content}


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line says, or end with one line that says why not."""
    parser = argparse.ArgumentParser(prog="python -m service.store", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does in (("add", "put a bundle into the store"), ("build", "and build a bento that serves it")):
        commands.add_parser(name, help=does).add_argument("bundle", type=Path)
    commands.add_parser("list", help="say which bundles are there")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
    try:
        said = tags() if chosen.command == "list" else [{"add": add, "build": build}[chosen.command](chosen.bundle)]
    except (PhotozError, BentoMLException, OSError) as error:
        sys.exit(f"photoz: {error}")
    for line in said:
        print(line)


if __name__ == "__main__":
    main()
