import json
import os
import stat

import pytest

from photoz.calibration import Calibration
from photoz.errors import InvalidBundle, reason
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.metrics import Score
from photoz.model import card as records  # its TestRecord by itself would look like a test
from photoz.model.bundle import ModelBundle
from photoz.model.card import CalibrationRecord, Histogram, ReferenceRecord
from tests.toys import toy_card, toy_ood_record

SCORES = {"this": {"bias": Score(1e-4, 2e-4)}}
HISTOGRAM = Histogram(edges=(0.1, 0.3), fractions=(0.5, 1.0))
OPTIONAL = {
    "calibration": CalibrationRecord(parameters=Calibration(1.1, 0.9), n_galaxies=2, scores=SCORES),
    "ood": toy_ood_record(3),
    "reference": ReferenceRecord(data="made up", n_galaxies=2, histograms={"z_mean": HISTOGRAM}),
}


def card_with(**changes):
    test = records.TestRecord(data="made up", n_galaxies=2, scores=SCORES)
    card = toy_card(ImageSpec(size=23, bands="griz"), RedshiftGrid(0.1 + 0.2, 90), takes_ebv=True, test=test)
    return card.model_copy(update=changes)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "openvino").mkdir(parents=True)
    (folder / "model.keras").write_bytes(b"\x00weights" * 100)
    (folder / "card.json").write_text("an old card, to be ignored")
    (folder / "openvino" / "model.bin").write_bytes(b"compiled")
    return folder


@pytest.fixture
def written(tmp_path, source):
    return ModelBundle.write(tmp_path / "our" / "models" / "compact", card_with(), source)


def refusal(path):
    with pytest.raises(InvalidBundle) as error:
        ModelBundle.load(path)
    return str(error.value)


def edit(written, change):
    path = written.path / "card.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_bundle_round_trip(written, source, tmp_path):
    loaded = ModelBundle.load(written.path)
    assert loaded == written
    assert loaded.card == card_with().sealed(loaded.card.files)
    assert list(loaded.card.files) == ["model.keras", "openvino/model.bin"]
    assert loaded.keras_path.read_bytes() == b"\x00weights" * 100
    assert (loaded.calibration, loaded.ood_path) == (None, written.path / "ood.npz")
    assert [path.name for path in written.path.parent.iterdir()] == ["compact"]
    assert sorted(path.name for path in source.iterdir()) == ["card.json", "model.keras", "openvino"]
    inputs = [records.Inputs(ebv=True, ebv_assumed=value).ebv_default for value in (0.1, None)]
    assert [records.Inputs(ebv=False).ebv_default, *inputs] == [0.0, 0.1, -1.0]
    with pytest.raises(InvalidBundle, match=r"lacks ood\.npz, which its card needs$"):
        ModelBundle.write(tmp_path / "new", card_with(**OPTIONAL), source)
    (source / "ood.npz").write_bytes(b"arrays")
    written = ModelBundle.write(tmp_path / "new", card_with(**OPTIONAL), source)
    loaded = ModelBundle.load(written.path)
    assert loaded == written
    assert loaded.calibration == Calibration(1.1, 0.9, 1.0)
    edit(written, lambda card: card["ood"].update(threshold=9.0))
    assert "changed after the bundle was sealed" in refusal(written.path)


SCHEMA = "does not follow schema version 3: "
CHANGED = "was changed after the bundle was sealed: its digest does not match"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda card: card["grid"].update(z_max=0.31), CHANGED),
        (lambda card: card["files"].update({"../secret": "0"}), CHANGED),
        (lambda card: card.update(digest="0" * 64), CHANGED),
        (lambda card: card.pop("grid"), f"{SCHEMA}grid: Field required"),
        (lambda card: card.update(more=1), f"{SCHEMA}more: Extra inputs are not permitted"),
        (lambda card: card.update(name="a/b"), f"{SCHEMA}name: String should match"),
        (lambda card: card.update(version="1" * 201), f"{SCHEMA}version: String should match"),
    ],
)
def test_edited_card_is_refused(written, change, problem):
    edit(written, change)
    assert refusal(written.path).startswith(f"{written.path}/card.json {problem}")
    for version in (2, 4, None, "3"):  # refused first
        edit(written, lambda card, version=version: card.update(schema_version=version))
        assert refusal(written.path).endswith(f"card.json has schema version {version}; expected 3")


def test_changed_missing_and_extra_files_and_unreadable_cards_are_refused(tmp_path, written, source):
    for name, place in (("model.keras", -1), ("openvino/model.bin", 0)):
        path = written.path / name
        sealed, content = path.read_bytes(), bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
        message = f"{path} is not the file that the bundle was sealed with: its sha256 differs"
        assert refusal(written.path) == message
        path.write_bytes(sealed)
    (written.path / "openvino" / "model.bin").rename(written.path / "openvino" / "other.bin")
    assert refusal(written.path) == f"{written.path} lacks openvino/model.bin"
    (written.path / "openvino" / "model.bin").write_bytes(b"compiled")
    assert refusal(written.path) == f"{written.path} holds files that its card does not list: openvino/other.bin"
    (source / "model.keras").unlink()
    with pytest.raises(InvalidBundle, match=rf"^expected model\.keras in {source}$"):
        ModelBundle.write(tmp_path / "new", card_with(), source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["our", "source"]
    missing, path = tmp_path / "nowhere", written.path / "card.json"
    assert refusal(missing) == f"{missing} is not a model bundle: it holds no card.json"
    message = f"{written.path}/model.keras/card.json cannot be read: Not a directory"
    assert refusal(written.path / "model.keras") == message
    for content in (b"", b"\xff\xfe"):
        path.write_bytes(content)
        assert refusal(written.path).startswith(f"{path} cannot be read: ")
    assert reason(PermissionError(13, "denied")) == f"permission denied to user {os.geteuid()}"
    assert [reason(OSError(5, "broken")), reason(ValueError("odd"))] == ["broken", "odd"]


def test_new_bundle_replaces_all_old_files_and_is_readable_by_other_users(written, source):
    (source / "openvino" / "model.bin").unlink()
    source.chmod(0o700)  # as a temporary folder is
    mask = os.umask(0o022)
    try:
        ModelBundle.write(written.path, card_with(version="2"), source)
    finally:
        os.umask(mask)
    loaded = ModelBundle.load(written.path)
    assert (loaded.card.version, list(loaded.card.files)) == ("2", ["model.keras"])
    assert stat.S_IMODE(written.path.stat().st_mode) == 0o755
    assert stat.S_IMODE((written.path / "card.json").stat().st_mode) == 0o644
    lost = records.TestRecord(data="none", n_galaxies=0, scores={"this": {"bias": Score(float("nan"), 0.0)}})
    with pytest.raises(InvalidBundle):
        ModelBundle.write(written.path, card_with(test=lost), source)
    assert ModelBundle.load(written.path) == loaded


def test_a_bundle_replaces_nothing_but_a_bundle(written, source, tmp_path):
    ModelBundle.write(written.path, card_with(version="2"), source)
    (tmp_path / "empty").mkdir()
    ModelBundle.write(tmp_path / "empty", card_with(), source)
    (written.path / "notes.txt").write_text("mine")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path, message in (
        (written.path, "compact holds files that are not of a model bundle, such as notes.txt"),
        (tmp_path / "thesis", "thesis exists and is not a model bundle: choose another folder"),
        (tmp_path / "file", "file exists and is not a model bundle"),
    ):
        with pytest.raises(InvalidBundle, match=message):
            ModelBundle.write(path, card_with(), source)
    kept = (written.path / "notes.txt", tmp_path / "thesis" / "chapter.tex", tmp_path / "file")
    assert [path.read_text() for path in kept] == ["mine"] * 3
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    ModelBundle.write(tmp_path / "link", card_with(version="3"), source)
    assert [ModelBundle.load(tmp_path / name).card.version for name in ("empty", "link")] == [card_with().version, "3"]


def test_a_card_without_end_is_not_read(written):
    path = written.path / "card.json"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert refusal(written.path).endswith("card.json is not a file")
    path.unlink()
    os.mkfifo(path)
    assert refusal(written.path).endswith("card.json is not a file")
    path.unlink()
    path.touch()
    os.truncate(path, 2**30)
    assert refusal(written.path).endswith("cannot be read: expected at most 16,777,216 bytes")
