"""The dashboard and the alerts query metrics that a running service exports, with labels that these have."""

import json
import re
import shutil
import subprocess

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from photoz.drift import OOD_SCORE, Z_MEAN, Z_WIDTH68
from photoz.flags import Flag
from service.metrics import LABELS, METHODS
from tests.running import ROOT

pytestmark = pytest.mark.e2e

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "photoz.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def read_rules(name):
    groups = yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


RECORDING_RULES, ALERTS = read_rules("rules.yaml"), read_rules("alerts.yaml")
QUERIES = {
    **{f"{panel['title']}, {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
    **{rule["record"]: rule["expr"] for rule in RECORDING_RULES},
    **{rule["alert"]: rule["expr"] for rule in ALERTS},
}

# Labels that Prometheus adds to all metrics, and the one metric that it makes itself.
TARGET_LABELS = frozenset({"job", "instance"})
UP = {"up": TARGET_LABELS}

SELECTOR = re.compile(r"\b(up|photoz[\w:]*|process_\w+)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")

PROMTOOL = ("check config prometheus.yaml", "check rules rules.yaml alerts.yaml", "test rules alerts_test.yaml")

# Possible values of labels. `status` can be any status of HTTP.
VALUES = {
    "flag": {flag.name for flag in Flag},
    "quantity": {Z_MEAN, Z_WIDTH68, OOD_SCORE},
    "route": set(LABELS),
    "method": set(METHODS),
}


@pytest.fixture(scope="module")
def samples(service_url):
    """The samples that a service exports after a prediction."""
    httpx.post(f"{service_url}/predict_file", content=(ROOT / "examples" / "cutouts.npz").read_bytes())
    text = httpx.get(f"{service_url}/metrics").text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


@pytest.fixture(scope="module")
def labels(samples):
    """The labels of exported metrics and of recording rules, which keep those of their metrics."""
    labels = UP | {sample.name: TARGET_LABELS.union(sample.labels) for sample in samples}
    for rule in RECORDING_RULES:
        labels[rule["record"]] = frozenset().union(*(labels[name] for name, _ in SELECTOR.findall(rule["expr"])))
    return labels


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_queries_use_exported_metrics_and_their_labels(labels, query):
    selectors = SELECTOR.findall(query)
    assert selectors
    available = frozenset().union(*(labels[metric] for metric, _ in selectors))  # KeyError: not exported
    for metric, matchers in selectors:
        assert {label for label, _, _ in MATCHER.findall(matchers)} <= labels[metric]
    for grouping in GROUPING.findall(query):
        assert {label.strip() for label in grouping.split(",")} <= available
    for label, _, text in MATCHER.findall(query):
        assert label not in VALUES or set(text.split("|")) <= VALUES[label]


def test_legends_use_labels_that_the_queries_keep(labels):
    for query, legend in ((target["expr"], target["legendFormat"]) for panel in PANELS for target in panel["targets"]):
        groupings = [set(re.split(r",\s*", names)) for names in re.findall(r"\bby \(([^)]*)\)", query)]
        available = groupings or [labels[metric] for metric, _ in SELECTOR.findall(query)]
        assert set(re.findall(r"{{(\w+)}}", legend)) <= set().union(*available), query


def test_estimates_and_reference_have_the_same_buckets(samples):
    # Prometheus 3 adds .0 to the le of a histogram; rules.yaml removes it.
    edges = {"photoz_reference_fraction": set(), "photoz_estimates_bucket": set()}
    for sample in samples:
        if sample.name in edges and sample.labels["le"] != "+Inf":
            edges[sample.name].add((sample.labels["quantity"], sample.labels["le"].removesuffix(".0")))
    assert edges["photoz_reference_fraction"] == edges["photoz_estimates_bucket"] != set()


def test_every_exported_metric_is_used(samples):
    used = {metric for query in QUERIES.values() for metric, _ in SELECTOR.findall(query)}
    exported = {sample.name for sample in samples}
    used, exported = (
        {re.sub("_(bucket|sum|count)$", "", name) for name in names if name.startswith("photoz_")}
        for names in (used, exported)
    )
    assert used == exported


def test_panels_are_complete():
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert re.search(r"; .*\.$", panel["description"])  # what it shows; what to do
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval", "1"}  # $1: of label_replace
            assert used <= set(variables)
            for metric, matchers in SELECTOR.findall(target["expr"]):
                assert 'job=~"$job", instance=~"$instance"' in matchers, metric


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alerts_are_complete(alert):
    assert alert["for"]
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert all(alert["annotations"][name] for name in ("summary", "description"))
    path, anchor = alert["annotations"]["runbook_url"].split("#")
    assert path == "docs/operations.md"
    assert anchor in {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", OPERATIONS, re.M)}
    assert f"`{alert['alert']}`" in OPERATIONS


def test_prometheus_scrapes_the_jobs_of_the_alerts():
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text(encoding="utf-8"))
    matched = {text for rule in ALERTS for label, _, text in MATCHER.findall(rule["expr"]) if label == "job"}
    assert {job["job_name"] for job in config["scrape_configs"]} == matched
    assert config["rule_files"] == ["rules.yaml", "alerts.yaml"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@pytest.mark.parametrize("command", PROMTOOL)
def test_promtool_accepts_the_configuration(command):
    done = subprocess.run(["promtool", *command.split()], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
