"""docs/model-card.md and the scores of README.md say what the card of the shipped model says."""

import re
import runpy
from pathlib import Path

import pytest

from photoz.model.bundle import ModelBundle

ROOT = Path(__file__).parents[2]
MODEL_CARD = (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shipped():
    return ModelBundle.load(ROOT / "models" / "photoz").card


@pytest.fixture(scope="module")
def make():
    return runpy.run_path(str(ROOT / "docs" / "make.py"))


@pytest.fixture(scope="module")
def model_card(make):
    return make["model_card"]


def test_model_card_is_up_to_date(shipped, model_card):
    assert model_card(shipped) == MODEL_CARD


def test_scores_of_the_readme_are_up_to_date(shipped, make):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("± ") >= 12
    assert make["with_scores"](readme, shipped) == readme


@pytest.mark.parametrize("words", ["not yet shown on real pixels", "must not be compared", "## Limits", "## Licence"])
def test_model_card_states_the_limits(words):
    assert words in MODEL_CARD


def test_model_card_of_real_images_does_not_say_rendered(shipped, model_card):
    training = shipped.training.model_copy(update={"data": "SDSS frames"})
    text = model_card(shipped.model_copy(update={"training": training, "caveats": (), "test": None}))
    assert "endered" not in text
    assert "It was not tested." in text


def test_links_of_the_model_card_exist():
    local = [link for link in re.findall(r"\]\(([^)#]+)\)", MODEL_CARD) if "://" not in link]
    assert local
    assert not [link for link in local if not (ROOT / "docs" / link).exists()]
