import json
import os
import stat

import pytest

from photoz.calibration import Calibration
from photoz.errors import InvalidBundle
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.metrics import Score
from photoz.model import card as records  # its TestRecord by itself would look like a test
from photoz.model.bundle import ModelBundle
from photoz.model.card import CalibrationRecord, Histogram, OodRecord, ReferenceRecord
from tests.toys import toy_card

TESTED = records.TestRecord(data="made up", n_galaxies=2, scores={"this": {"bias": Score(1e-4, 2e-4)}})
OPTIONAL = {
    "calibration": CalibrationRecord(
        parameters=Calibration(1.1, 0.9), n_galaxies=2, scores={"before": {"bias": Score(1e-4, 2e-4)}}
    ),
    "ood": OodRecord(threshold=1.02, false_alarms=0.01, n_features=3),
    "reference": ReferenceRecord(
        data="made up", n_galaxies=2, histograms={"z_mean": Histogram(edges=(0.1, 0.3), fractions=(0.5, 1.0))}
    ),
}


def card_with(**changes):
    card = toy_card(ImageSpec(size=23, bands="griz"), RedshiftGrid(0.1 + 0.2, 90), takes_ebv=True, test=TESTED)
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


def test_bundle_round_trip(written):
    loaded = ModelBundle.load(written.path)
    assert loaded == written
    assert loaded.card.grid == RedshiftGrid(0.1 + 0.2, 90)
    assert loaded.card.image.shape == (23, 23, 4)
    assert loaded.card.test == TESTED
    assert records.Inputs(ebv=False).ebv_default == 0.0
    assert set(loaded.card.files) == {"model.keras", "openvino/model.bin"}
    assert loaded.keras_path.read_bytes() == b"\x00weights" * 100


def test_writing_leaves_no_other_files(written, source):
    assert [path.name for path in written.path.parent.iterdir()] == ["compact"]
    assert sorted(path.name for path in source.iterdir()) == ["card.json", "model.keras", "openvino"]


@pytest.mark.parametrize("name", ["model.keras", "openvino/model.bin"])
@pytest.mark.parametrize("place", [0, -1])
def test_changed_byte_is_refused(written, name, place):
    content = bytearray((written.path / name).read_bytes())
    content[place] ^= 1
    (written.path / name).write_bytes(content)
    assert f"{name} is not the file that the bundle was sealed with" in refusal(written.path)


def test_missing_and_extra_files_are_refused(written):
    (written.path / "openvino" / "model.bin").rename(written.path / "openvino" / "other.bin")
    assert "lacks openvino/model.bin" in refusal(written.path)
    (written.path / "openvino" / "model.bin").write_bytes(b"compiled")
    assert "does not list: openvino/other.bin" in refusal(written.path)


def test_optional_records_round_trip_and_are_sealed(source, tmp_path):
    (source / "ood.npz").write_bytes(b"arrays")
    written = ModelBundle.write(tmp_path / "new", card_with(**OPTIONAL), source)
    loaded = ModelBundle.load(written.path)
    assert loaded == written
    assert loaded.calibration == Calibration(1.1, 0.9, 1.0)
    edit(written, lambda card: card["ood"].update(threshold=9.0))
    assert "changed after the bundle was sealed" in refusal(written.path)


def test_ood_record_needs_its_file(source, tmp_path):
    with pytest.raises(InvalidBundle, match=r"lacks ood\.npz"):
        ModelBundle.write(tmp_path / "new", card_with(**OPTIONAL), source)


EDITS = {
    "grid": lambda card: card["grid"].update(z_max=0.31),
    "bins": lambda card: card["grid"].update(n_bins=91),
    "band order": lambda card: card["image"].update(bands=["r", "g", "i", "z"]),
    "reddening": lambda card: card["inputs"].update(ebv_assumed=0.0),
    "score": lambda card: card["test"]["scores"]["this"]["bias"].update(value=0.0),
    "licence": lambda card: card.update(licence="none"),
    "list of files": lambda card: card["files"].update({"../secret": "0"}),
    "digest": lambda card: card.update(digest="0" * 64),
}


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_edited_card_is_refused(written, change):
    edit(written, change)
    assert "changed after the bundle was sealed" in refusal(written.path)


@pytest.mark.parametrize("version", [2, 4, None, "3"])
def test_other_schema_version_is_refused_first(written, version):
    edit(written, lambda card: card.update(schema_version=version, news={"from": "the future"}))
    assert f"schema version {version}; expected 3" in refusal(written.path)


@pytest.mark.parametrize(
    "change", [lambda card: card.pop("grid"), lambda card: card.update(more=1), lambda card: card["grid"].clear()]
)
def test_card_against_the_schema_is_refused(written, change):
    edit(written, change)
    assert "does not follow schema version 3" in refusal(written.path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_unreadable_card_is_refused(written, content):
    (written.path / "card.json").write_bytes(content)
    assert "card.json" in refusal(written.path)


def test_other_folders_are_refused(tmp_path, source):
    assert "holds no card.json" in refusal(tmp_path / "nowhere")
    assert "cannot be read" in refusal(source)
    assert "cannot be read" in refusal(source / "model.keras")


def test_bundle_without_network_is_not_written(tmp_path, source):
    (source / "model.keras").unlink()
    with pytest.raises(InvalidBundle, match=r"expected model\.keras"):
        ModelBundle.write(tmp_path / "new", card_with(), source)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_new_bundle_replaces_all_old_files(written, source):
    (source / "openvino" / "model.bin").unlink()
    ModelBundle.write(written.path, card_with(version="2"), source)
    loaded = ModelBundle.load(written.path)
    assert loaded.card.version == "2"
    assert set(loaded.card.files) == {"model.keras"}


def test_unloadable_bundle_does_not_replace_the_old_one(written, source):
    lost = records.TestRecord(data="none", n_galaxies=0, scores={"this": {"bias": Score(float("nan"), 0.0)}})
    with pytest.raises(InvalidBundle):
        ModelBundle.write(written.path, card_with(test=lost), source)
    assert ModelBundle.load(written.path) == written


def test_bundle_is_readable_by_other_users(tmp_path, source):
    source.chmod(0o700)  # as a temporary folder is
    mask = os.umask(0o022)
    try:
        written = ModelBundle.write(tmp_path / "served", card_with(), source)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(written.path.stat().st_mode) == 0o755
    assert stat.S_IMODE((written.path / "card.json").stat().st_mode) == 0o644
