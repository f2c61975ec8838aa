"""Bundles in BentoML's model store."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import bentoml
import pytest
from click.testing import CliRunner

from photoz.errors import InvalidBundle, InvalidInput
from photoz.model.bundle import ModelBundle
from service import store
from service.cli import main
from service.startup import bundle_path as resolve

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # of BentoML 1.4.39


@pytest.fixture(autouse=True)
def model_store(tmp_path, monkeypatch):
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models import ModelStore
    from bentoml._internal.utils.analytics import usage_stats

    monkeypatch.setenv("BENTOML_DO_NOT_TRACK", "true")
    usage_stats.do_not_track.cache_clear()
    (tmp_path / "models").mkdir()
    BentoMLContainer.model_store.set(ModelStore(tmp_path / "models"))
    yield tmp_path / "models"
    BentoMLContainer.model_store.reset()


@pytest.fixture
def change(small_bundle, tmp_path):
    def write(**fields):
        folder = tmp_path / f"changed{len(list(tmp_path.iterdir()))}"
        return ModelBundle.write(folder, small_bundle.card.model_copy(update=fields), small_bundle.path).path

    return write


def test_bundle_is_found_by_its_tag(small_bundle, change, model_store, tmp_path, monkeypatch):
    assert store.add(change(version="2")) == "toy:2"
    assert store.add(small_bundle.path) == store.add(small_bundle.path) == "toy:1"
    folder = model_store / "toy" / "1" / "bundle"
    for tag in ("toy:1", "toy:latest"):  # that which was added last
        assert resolve(Path(tag)) == store.find(tag) == folder
    assert folder.stat().st_mode & folder.parent.stat().st_mode & 0o055 == 0o055  # for other users
    with pytest.raises(InvalidBundle, match=r"another bundle is stored as toy:1: give .* a version of its own"):
        store.add(change(licence="none"))
    assert ModelBundle.load(folder).card == small_bundle.card
    info = bentoml.models.get("toy:1").info
    assert (info.labels["digest"], info.metadata["name"], info.metadata["version"]) == (
        small_bundle.card.digest,
        "toy",
        "1",
    )
    assert info.metadata["grid"] == {"z_max": small_bundle.card.grid.z_max, "n_bins": small_bundle.card.grid.n_bins}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy:1").mkdir()
    assert str(resolve(Path("toy:1"))) == "toy:1"  # a folder has precedence over a tag


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what BentoML imports
def test_bento_serves_the_bundle_it_was_built_with_and_reports_nothing(small_bundle, monkeypatch):
    from bentoml._internal.utils.analytics import usage_stats

    from service import bento

    tag = store.add(small_bundle.path)
    models = [SimpleNamespace(alias=alias, tag=of) for alias, of in (("other", "other:1"), ("bundle", tag))]
    usage_stats.do_not_track.cache_clear()
    monkeypatch.setenv("CHECKED", "")
    monkeypatch.delenv("BENTOML_DO_NOT_TRACK")
    assert not usage_stats.do_not_track()  # which it keeps
    for given, built, expected in (("", [], ""), ("chosen", models, "chosen"), ("", models, store.find(tag))):
        monkeypatch.setenv("PHOTOZ_BUNDLE", given)
        monkeypatch.setattr(bento.bento_service, "bento", SimpleNamespace(info=SimpleNamespace(all_models=built)))
        monkeypatch.setattr(bento, "worker_environment", lambda: {"CHECKED": os.environ["PHOTOZ_BUNDLE"]})
        bento.Photoz.inner.check_before_deployment()
        assert os.environ["CHECKED"] == str(expected)
    assert (usage_stats.do_not_track(), os.environ["BENTOML_DO_NOT_TRACK"]) == (True, "true")
    models[1].tag = "other:1"
    monkeypatch.setenv("PHOTOZ_BUNDLE", "")
    with pytest.raises(SystemExit, match="^photoz: the model store has no bundle other:1; "):
        bento.Photoz.inner.check_before_deployment()


def test_tag_is_made_from_most_names(small_bundle, change):
    for name, version, tag in (
        ("Photo-z (SDSS)", "2026.11.24-172738", "photo-z-sdss:2026.11.24-172738"),
        ("_x_", "v1+g12ab", "x:v1-g12ab"),
        ("a" * 62 + "-b", "1", "a" * 62 + ":1"),
    ):
        assert store.add(change(name=name, version=version)) == tag
        assert ModelBundle.load(store.find(tag)).card.name == name
    for name, version in (("模型", "1"), ("toy", "..."), ("toy", "Latest")):
        with pytest.raises(InvalidBundle, match="cannot be the name and the version of a model in the store"):
            store.tag_of(small_bundle.card.model_copy(update={"name": name, "version": version}))


def test_unknown_tag_or_incomplete_model_is_refused(small_bundle, change, model_store):
    store.add(change(version="1.0.1"))
    with bentoml.models.create("other:1"):  # a model that is not a bundle
        pass
    for tag in ("toy:2", "toy:1.0", "other:latest"):
        with pytest.raises(
            InvalidInput, match=f"^the model store has no bundle {tag}; `bentoml models list` lists the"
        ):
            resolve(Path(tag))
    with pytest.raises(InvalidInput, match=r"^the model store: Invalid Tag toy:1\.$"):
        resolve(Path("toy:1."))
    store.add(small_bundle.path)
    (model_store / "toy" / "1" / "model.yaml").unlink()
    with pytest.raises(InvalidInput, match=r"^the model store: .* does not contain a 'model\.yaml'$"):
        store.find("toy:1")


def test_command_adds_a_whole_bundle(small_bundle, tmp_path):
    damaged = shutil.copytree(small_bundle.path, tmp_path / "damaged")
    (damaged / "model.keras").write_bytes(b"something else")
    expected = "is not the file that the bundle was sealed with: its sha256 differs"
    os.environ.pop("BENTOML_DO_NOT_TRACK")  # which a fixture restores
    added = CliRunner().invoke(main, ["store", "add", str(damaged)])
    assert os.environ["BENTOML_DO_NOT_TRACK"] == "true"
    assert (added.exit_code, added.output) == (1, f"Error: {damaged / 'model.keras'} {expected}\n")
    assert not bentoml.models.list()
    added = CliRunner().invoke(main, ["store", "add", str(small_bundle.path)])
    assert (added.exit_code, added.output) == (0, "toy:1\n")
