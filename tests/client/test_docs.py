"""docs/client.md has every error and every file format."""

import photoz_client
from photoz.io.formats import WRITTEN_SUFFIXES
from photoz_client import PhotozClientError
from tests.running import ROOT

GUIDE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")


def test_every_error_is_documented():
    kinds = (getattr(photoz_client, name) for name in photoz_client.__all__)
    errors = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, PhotozClientError)}
    undocumented = {kind.__name__ for kind in errors if f"`{kind.__name__}`" not in GUIDE}
    assert undocumented == {"PhotozClientError", "InvalidUrl"}


def test_every_file_format_is_documented():
    assert [suffix for suffix in WRITTEN_SUFFIXES if f"`{suffix}`" not in GUIDE] == []
