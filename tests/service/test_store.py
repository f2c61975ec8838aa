"""Bundles in BentoML's model store."""

import shutil
from pathlib import Path

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


@pytest.fixture(scope="module")
def toy(make_toy_bundle):
    return make_toy_bundle()


@pytest.fixture
def change(toy, tmp_path):
    """Return a function that writes the toy again, with other fields in its card, and returns the folder."""

    def write(**fields):
        folder = tmp_path / f"changed{len(list(tmp_path.iterdir()))}"
        return ModelBundle.write(folder, toy.card.model_copy(update=fields), toy.path).path

    return write


def test_bundle_is_found_by_its_tag(toy, model_store, tmp_path, monkeypatch):
    assert store.add(toy.path) == store.add(toy.path) == "toy:1"
    folder = model_store / "toy" / "1" / "bundle"
    for tag in ("toy:1", "toy:latest"):
        assert resolve(Path(tag)) == store.find(tag) == folder
    assert ModelBundle.load(folder).card == toy.card
    assert folder.stat().st_mode & folder.parent.stat().st_mode & 0o055 == 0o055  # for other users
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy:1").mkdir()
    assert str(resolve(Path("toy:1"))) == "toy:1"  # a folder has precedence over a tag


def test_stored_model_has_the_content_of_the_card(card, bundle_path):
    info = bentoml.models.get(store.add(bundle_path)).info
    assert info.labels["digest"] == card.digest
    assert (info.metadata["name"], info.metadata["version"]) == (card.name, card.version)
    assert info.metadata["grid"] == {"z_max": card.grid.z_max, "n_bins": card.grid.n_bins}


def test_latest_is_the_one_added_last(toy, change):
    store.add(change(version="2"))
    store.add(toy.path)
    assert ModelBundle.load(store.find("toy:latest")).card == toy.card


def test_another_bundle_with_the_same_tag_is_refused(toy, change):
    store.add(toy.path)
    with pytest.raises(InvalidBundle, match=r"another bundle is stored as toy:1: give .* a version of its own"):
        store.add(change(licence="none"))
    assert ModelBundle.load(store.find("toy:1")).card == toy.card


@pytest.mark.parametrize(
    ("name", "version", "tag"),
    [
        ("Photo-z (SDSS)", "2026.11.24-172738", "photo-z-sdss:2026.11.24-172738"),
        ("_x_", "v1+g12ab", "x:v1-g12ab"),
        ("a" * 62 + "-b", "1", "a" * 62 + ":1"),
    ],
)
def test_tag_is_made_from_any_name(change, name, version, tag):
    assert store.add(change(name=name, version=version)) == tag
    assert ModelBundle.load(store.find(tag)).card.name == name


@pytest.mark.parametrize(("name", "version"), [("模型", "1"), ("toy", "..."), ("toy", "Latest")])
def test_name_without_a_tag_is_refused(toy, name, version):
    with pytest.raises(InvalidBundle, match="cannot be the name and the version of a model in the store"):
        store.tag_of(toy.card.model_copy(update={"name": name, "version": version}))


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        *(
            (tag, f"the model store has no bundle {tag}; `bentoml models list` lists the models in it")
            for tag in ("toy:2", "toy:1.0", "other:latest")
        ),
        ("toy:1.", r"the model store: Invalid Tag toy:1\."),
    ],
)
def test_unknown_tag_is_refused(change, tag, message):
    store.add(change(version="1.0.1"))
    with bentoml.models.create("other:1"):  # a model that is not a bundle
        pass
    with pytest.raises(InvalidInput, match=f"^{message}$"):
        resolve(Path(tag))


def test_incomplete_model_is_refused(toy, model_store):
    store.add(toy.path)
    (model_store / "toy" / "1" / "model.yaml").unlink()
    with pytest.raises(InvalidInput, match=r"^the model store: .* does not contain a 'model\.yaml'$"):
        store.find("toy:1")


def run(*arguments):
    return CliRunner().invoke(main, ["store", *map(str, arguments)])


def test_commands(toy, tmp_path):
    damaged = shutil.copytree(toy.path, tmp_path / "damaged")
    (damaged / "model.keras").write_bytes(b"something else")
    refused = run("add", damaged)
    assert refused.exit_code == 1
    expected = "is not the file that the bundle was sealed with: its sha256 differs"
    assert refused.output == f"Error: {damaged / 'model.keras'} {expected}\n"
    assert not bentoml.models.list()
    assert run("add", toy.path).output == "toy:1\n"
