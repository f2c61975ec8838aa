"""docs/http-api.md and docs/operations.md agree with the code, and their commands work."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from astropy.io import fits

from photoz.estimates import COLUMNS
from photoz.flags import Flag
from photoz.io.npz import npz_bytes
from photoz.metrics import METRICS
from photoz.protocol import contract
from service.middleware.errors import STATUS
from service.operations.settings import Settings
from tests.running import ROOT

DOCUMENT = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]


def test_flags_columns_metrics_and_options_are_documented():
    rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", DOCUMENT, re.MULTILINE)
    assert {name: int(bit) for bit, name in rows} == {flag.name: flag.value for flag in Flag}
    for name in (*COLUMNS, "pdf", *METRICS, *contract.EvaluateRequest.model_fields):
        assert f"`{name}`" in DOCUMENT, name
    for option in (*contract.PredictOptions.model_fields, *contract.EvaluateOptions.model_fields):
        assert re.search(rf"`{option}[=`]", DOCUMENT), option


def test_statuses_are_documented():
    rows = re.findall(r"^\| ([\d, ]+) \|", DOCUMENT, re.MULTILINE)
    assert {str(int(status)) for _, status in STATUS} | {"404", "405", "500"} <= set(", ".join(rows).split(", "))


def test_settings_are_documented_with_their_defaults():
    rows = dict(re.findall(r"^\| `(PHOTOZ_[A-Z_]+)` \| (.*?) \|", OPERATIONS, re.MULTILINE))
    fields = Settings.model_fields
    assert set(rows) == {f"PHOTOZ_{name.upper()}" for name in fields}
    defaults = {name: field.default for name, field in fields.items() if type(field.default) in (bool, float, int, str)}
    for name, default in defaults.items():
        text = ("off", "on")[default] if isinstance(default, bool) else str(default).removesuffix(".0")
        assert rows[f"PHOTOZ_{name.upper()}"] == f"`{text}`"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, images, card):
    folder = tmp_path_factory.mktemp("docs")
    z_spec = np.linspace(0.1, 0.9, len(images)) * card.grid.z_max
    (folder / "cutouts.npz").write_bytes(npz_bytes({"images": images}))
    fits.PrimaryHDU(np.moveaxis(images, -1, 1)).writeto(folder / "cutouts.fits")
    (folder / "labelled.npz").write_bytes(npz_bytes({"images": images, "z_spec": z_spec}))
    (folder / "cutouts.json").write_text(json.dumps({"images": images[:1].tolist()}))
    return folder


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_work(command, folder, service_url):
    assert command.startswith("curl "), command
    command = command.replace("http://127.0.0.1:3000", service_url).replace("curl", "curl -sS -w '\\n%{http_code}'", 1)
    result = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    answer, status = result.stdout.rsplit("\n", 1)
    assert status == ("422" if "[[[[1.0]]]]" in command else "200"), answer
    if status == "422":
        assert answer in DOCUMENT
