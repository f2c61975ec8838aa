"""Bundles in BentoML's model store: what goes in, under which tag, and how it is found again."""

import shutil
import subprocess
import sys

import bentoml
import pytest
from running import ROOT, serve_environment
from service.settings import Settings

from photoz.errors import InvalidBundle, InvalidInput
from photoz.model.bundle import ModelBundle
from service import store

# Of BentoML 1.4.39, which imports most of itself when it is first used.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


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
def sealed(toy, tmp_path):
    """Return a function that writes the toy again with other things on its card."""

    def write(**fields):
        return ModelBundle.write(
            tmp_path / f"sealed{len(list(tmp_path.iterdir()))}", toy.card.model_copy(update=fields), toy.path
        )

    return write


def test_a_bundle_is_found_by_its_tag_and_as_the_latest(toy, model_store):
    assert store.add(toy.path) == "toy:1"
    for tag in ("toy:1", "toy:latest"):
        assert ModelBundle.load(store.find(tag)).card == toy.card
        assert Settings.from_environment({"PHOTOZ_BUNDLE": tag}).bundle == model_store / "toy" / "1" / "bundle"


def test_the_store_says_what_the_card_does(card, bundle_path):
    model = bentoml.models.get(store.add(bundle_path))
    assert model.info.labels["digest"] == card.digest
    assert (model.info.metadata["name"], model.info.metadata["version"]) == (card.name, card.version)
    assert model.info.metadata["grid"] == {"z_max": card.grid.z_max, "n_bins": card.grid.n_bins}
    figures = model.info.metadata["test"]["scores"]["this model"]
    assert figures["sigma_mad"]["value"] == card.test.scores["this model"]["sigma_mad"].value


def test_the_latest_is_the_one_that_came_last(toy, sealed):
    store.add(sealed(version="2").path)
    store.add(toy.path)
    assert ModelBundle.load(store.find("toy:latest")).card == toy.card
    assert store.tags() == ["toy:1", "toy:2"]


def test_the_same_bundle_may_come_again(toy):
    assert store.add(toy.path) == store.add(toy.path)
    assert store.tags() == ["toy:1"]


def test_another_one_under_its_tag_may_not(toy, sealed):
    store.add(toy.path)
    with pytest.raises(
        InvalidBundle, match=r"another bundle is in the model store as toy:1: give .* a version of its own"
    ):
        store.add(sealed(licence="none").path)
    assert ModelBundle.load(store.find("toy:1")).card == toy.card


def test_a_bundle_that_cannot_be_trusted_stays_out(toy, tmp_path):
    shutil.copytree(toy.path, tmp_path / "changed")
    (tmp_path / "changed" / "model.keras").write_bytes(b"something else")
    with pytest.raises(InvalidBundle, match="its sha256 differs"):
        store.add(tmp_path / "changed")
    assert store.tags() == []


def test_others_may_read_what_is_stored(toy):
    store.add(toy.path)
    for folder in (store.find("toy:1"), store.find("toy:1").parent):
        assert folder.stat().st_mode & 0o055 == 0o055


@pytest.mark.parametrize(
    ("name", "version", "tag"),
    [
        ("Photo-z (SDSS)", "2026.11.24-172738", "photo-z-sdss:2026.11.24-172738"),
        ("_x_", "v1+g12ab", "x:v1-g12ab"),
        ("a" * 62 + "-b", "1", "a" * 62 + ":1"),
    ],
)
def test_a_tag_is_made_of_any_name(sealed, name, version, tag):
    assert store.add(sealed(name=name, version=version).path) == tag
    assert ModelBundle.load(store.find(tag)).card.name == name


@pytest.mark.parametrize(("name", "version"), [("模型", "1"), ("toy", "..."), ("toy", "Latest")])
def test_of_some_none_can_be_made(sealed, name, version):
    with pytest.raises(InvalidBundle, match="cannot be the name and the version of a model in the store"):
        store.add(sealed(name=name, version=version).path)


@pytest.mark.parametrize("tag", ["toy:2", "other:latest", "toy:1.0.0", "toy:1.0"])
def test_of_a_tag_that_is_not_there_it_is_said_what_is(sealed, tag):
    store.add(sealed(version="1.0.1").path)
    with pytest.raises(InvalidInput) as refused:
        Settings.from_environment({"PHOTOZ_BUNDLE": tag})
    assert (
        str(refused.value)
        == f"PHOTOZ_BUNDLE={tag} cannot be used: the model store has no bundle {tag}; it has toy:1.0.1"
    )


def test_what_is_no_tag_is_told_so(toy):
    store.add(toy.path)
    with pytest.raises(
        InvalidInput, match=r"^PHOTOZ_BUNDLE=toy:1\. cannot be used: the model store: Invalid Tag toy:1\.$"
    ):
        Settings.from_environment({"PHOTOZ_BUNDLE": "toy:1."})


def test_a_folder_is_taken_before_a_tag(toy, tmp_path, monkeypatch):
    store.add(toy.path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy:1").mkdir()
    assert str(Settings.from_environment({"PHOTOZ_BUNDLE": "toy:1"}).bundle) == "toy:1"


def test_models_of_others_are_no_bundles(toy):
    with bentoml.models.create("other:1"):
        pass
    with pytest.raises(InvalidInput, match="the model store has no bundle other:1; it has none"):
        store.find("other:1")


def test_what_was_half_written_is_told(toy, model_store):
    store.add(toy.path)
    (model_store / "toy" / "1" / "model.yaml").unlink()
    for tag in ("toy:1", "toy:2"):
        with pytest.raises(InvalidInput, match=r"^the model store: .* does not contain a 'model\.yaml'$"):
            store.find(tag)


def command(home, *arguments):
    program = [sys.executable, "-m", "service.store", *arguments]
    return subprocess.run(program, cwd=ROOT, env=serve_environment(home), capture_output=True, text=True, timeout=120)


def test_the_command_says_the_tag(toy, tmp_path):
    assert command(tmp_path, "list").stdout == ""
    for _ in range(2):
        assert command(tmp_path, "add", str(toy.path)).stdout == "toy:1\n"
    assert command(tmp_path, "list").stdout == "toy:1\n"


def test_or_in_one_line_what_is_wrong(tmp_path):
    refused = command(tmp_path, "add", str(tmp_path))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"photoz: {tmp_path} is not a model bundle: it holds no card.json\n"


def test_a_home_that_cannot_be_used_is_told_where_a_tag_is_asked_for(tmp_path):
    (tmp_path / "file").write_text("")
    environment = serve_environment(tmp_path / "file" / "home", PHOTOZ_BUNDLE="toy:1")
    program = [sys.executable, "-m", "service", "--port", "0"]
    refused = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert refused.stderr.startswith("photoz: the model store: ")
    assert len(refused.stderr.splitlines()) == 1
