"""docs/http-api.md, docs/estimates.md and docs/operations.md agree with the code."""

import re

from photoz.estimates import COLUMNS
from photoz.flags import Flag
from photoz.metrics import METRICS
from photoz.protocol import contract
from service import openapi
from service.settings import Settings
from tests.running import ROOT

DOCUMENT = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("http-api.md", "estimates.md"))
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_flags_columns_metrics_and_options_are_documented():
    rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", DOCUMENT, re.MULTILINE)
    assert {name: int(bit) for bit, name in rows} == {flag.name: flag.value for flag in Flag}
    for name in (*COLUMNS, "pdf", *METRICS, *contract.EvaluateRequest.model_fields):
        assert f"`{name}`" in DOCUMENT, name
    for option in (*contract.PredictOptions.model_fields, *contract.EvaluateOptions.model_fields):
        assert re.search(rf"`{option}[=`]", DOCUMENT), option


def test_statuses_are_documented():
    rows = re.findall(r"^\| ([\d, ]+) \|", DOCUMENT, re.MULTILINE)
    operations = [operation for path in openapi.document()["paths"].values() for operation in path.values()]
    statuses = {status for operation in operations for status in operation["responses"]} - {"200"}
    assert statuses >= {
        "400",
        "401",
        "404",
        "406",
        "408",
        "413",
        "415",
        "422",
        "429",
        "431",
        "500",
        "502",
        "503",
        "504",
    }
    assert statuses | {"405"} <= set(", ".join(rows).split(", "))


def test_settings_are_documented_with_their_defaults():
    rows = dict(re.findall(r"^\| `(PHOTOZ_[A-Z_]+)` \| (.*?) \|", OPERATIONS, re.MULTILINE))
    fields = Settings.model_fields
    assert set(rows) == {f"PHOTOZ_{name.upper()}" for name in fields}
    defaults = {name: field.default for name, field in fields.items() if type(field.default) in (bool, float, int, str)}
    assert defaults.pop("trusted_proxies") == ""  # an empty cell
    for name, default in defaults.items():
        text = ("off", "on")[default] if isinstance(default, bool) else str(default).removesuffix(".0")
        assert rows[f"PHOTOZ_{name.upper()}"] == f"`{text}`"
