"""The dashboard and the alerts ask for what a running service exports, and for nothing else."""

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import combinations
from types import ModuleType
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from running import ROOT

from photoz.drift import OOD_SCORE, Z_MEAN, Z_WIDTH68
from photoz.estimates import Flag
from service.metrics import LABELS, METHODS

pytestmark = pytest.mark.e2e

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "photoz.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


RECORDED, ALERTS = rules("rules.yaml"), rules("alerts.yaml")
QUERIES = {
    **{f"{panel['title']}, {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
    **{rule["record"]: rule["expr"] for rule in RECORDED},
    **{rule["alert"]: rule["expr"] for rule in ALERTS},
}

# Names that Prometheus adds to whatever it reads, and the one metric that it makes itself.
OF_THE_TARGET = frozenset({"job", "instance"})
UP = {"up": OF_THE_TARGET}

SELECTOR = re.compile(r"\b(up|photoz[\w:]*|process_\w+)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")

# What the labels that are matched may be. `status` is anything that HTTP has.
VALUES = {
    "flag": {flag.name for flag in Flag},
    "quantity": {Z_MEAN, Z_WIDTH68, OOD_SCORE},
    "route": set(LABELS),
    "method": set(METHODS),
}


@pytest.fixture(scope="module")
def exported(service_url: str) -> dict[str, frozenset[str]]:
    """Return the labels by the names of all samples, once each kind of request was counted."""
    httpx.post(f"{service_url}/predict_file", content=(ROOT / "examples" / "cutouts.npz").read_bytes())
    text = httpx.get(f"{service_url}/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: OF_THE_TARGET.union(sample.labels) for sample in samples}


@pytest.fixture(scope="module")
def known(exported: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return these with what the rules record; they keep what they do not sum over."""
    found = exported | UP
    for rule in RECORDED:
        found[rule["record"]] = frozenset().union(*(found[name] for name, _ in SELECTOR.findall(rule["expr"])))
    return found


def legends() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                yield label, target["expr"]


@pytest.mark.parametrize("name", QUERIES)
def test_what_is_asked_for_is_exported(known: dict[str, frozenset[str]], name: str) -> None:
    selectors = SELECTOR.findall(QUERIES[name])
    assert selectors
    labels = frozenset().union(*(known[metric] for metric, _ in selectors))  # KeyError: nobody exports it
    for metric, matchers in selectors:
        assert {label for label, _, _ in MATCHER.findall(matchers)} <= known[metric]
    for grouping in GROUPING.findall(QUERIES[name]):
        assert {label.strip() for label in grouping.split(",")} <= labels


@pytest.mark.parametrize("name", QUERIES)
def test_the_labels_that_are_matched_have_such_values(name: str) -> None:
    for label, _, text in MATCHER.findall(QUERIES[name]):
        if label in VALUES:
            assert set(text.split("|")) <= VALUES[label]


def test_the_legends_name_labels_that_the_queries_leave(known: dict[str, frozenset[str]]) -> None:
    for label, query in legends():
        kept = [set(re.split(r",\s*", found)) for found in re.findall(r"\bby \(([^)]*)\)", query)]
        of_the_metrics = frozenset().union(*(known[metric] for metric, _ in SELECTOR.findall(query)))
        assert label in (set().union(*kept) if kept else of_the_metrics), query


def test_live_and_reference_meet_in_every_bucket(service_url: str) -> None:
    # As rules.yaml takes the .0 away that Prometheus 3 gives to the le of a histogram.
    text = httpx.get(f"{service_url}/metrics").text
    found: dict[str, set[tuple[str, str]]] = {"photoz_reference_fraction": set(), "photoz_estimates_bucket": set()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in found and sample.labels["le"] != "+Inf":
                found[sample.name].add((sample.labels["quantity"], sample.labels["le"].removesuffix(".0")))
    assert found["photoz_reference_fraction"] == found["photoz_estimates_bucket"] != set()


def test_every_metric_is_shown(exported: dict[str, frozenset[str]]) -> None:
    shown = {metric for name in QUERIES for metric, _ in SELECTOR.findall(QUERIES[name])}
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in exported if name.startswith("photoz_")}
    assert families == {re.sub("_(bucket|sum|count)$", "", name) for name in shown if name.startswith("photoz_")}


def test_every_panel_says_what_it_shows_and_what_to_do() -> None:
    for panel in PANELS:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert "; " in panel["description"]
        assert panel["description"].endswith(".")
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_every_panel_takes_the_chosen_source_and_targets() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in PANELS:
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval", "1"}  # $1: of label_replace
            assert used <= set(variables)
            for metric, matchers in SELECTOR.findall(target["expr"]):
                assert 'job=~"$job", instance=~"$instance"' in matchers, metric


def test_no_panel_lies_on_another() -> None:
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    for one, other in combinations([panel["gridPos"] for panel in DASHBOARD["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    assert max(panel["gridPos"]["x"] + panel["gridPos"]["w"] for panel in DASHBOARD["panels"]) == 24


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["for"]
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]
    path, anchor = alert["annotations"]["runbook_url"].split("#")
    assert path == "docs/operations.md"
    assert anchor in {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", OPERATIONS, re.M)}
    assert f"`{alert['alert']}`" in OPERATIONS


def test_prometheus_looks_where_the_alerts_do() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text(encoding="utf-8"))
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    matched = {text for rule in ALERTS for label, _, text in MATCHER.findall(rule["expr"]) if label == "job"}
    assert jobs == matched
    assert config["rule_files"] == ["rules.yaml", "alerts.yaml"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool, of Prometheus, is not installed")
@pytest.mark.parametrize(
    "command",
    ["check config prometheus.yaml", "check rules rules.yaml alerts.yaml", "test rules alerts_test.yaml"],
)
def test_promtool_finds_nothing_wrong(command: str) -> None:
    done = subprocess.run(
        ["promtool", *command.split()], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check", PROMETHEUS / "check.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ask(check: ModuleType) -> Callable[[list[str]], int]:
    """Return `check.ask` of a Prometheus that gives these numbers."""

    def asked(numbers: list[str]) -> int:
        result = [{"metric": {}, "value": [0, number]} for number in numbers]
        content = {"status": "success", "data": {"resultType": "vector", "result": result}}
        transport = httpx.MockTransport(lambda _: httpx.Response(200, json=content))
        return check.ask(httpx.Client(base_url="http://prometheus", transport=transport), "up")

    return asked


def test_the_check_wants_numbers(check: ModuleType, ask: Callable[[list[str]], int]) -> None:
    assert ask(["1", "NaN", "+Inf"]) == 2
    for nothing in ([], ["NaN"]):
        with pytest.raises(check.NoAnswer):
            ask(nothing)


def test_the_check_asks_as_grafana_would(check: ModuleType) -> None:
    queries = [query for _, query in check.dashboard_queries(DASHBOARD)]
    assert len(queries) == sum(len(panel["targets"]) for panel in PANELS)
    assert not any(re.search(r"\$(?!1\b)", query) for query in queries)
