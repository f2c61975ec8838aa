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

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "photoz.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
RECORDING_RULES, ALERTS = (
    [rule for group in yaml.safe_load((PROMETHEUS / name).read_text("utf-8"))["groups"] for rule in group["rules"]]
    for name in ("rules.yaml", "alerts.yaml")
)
QUERIES = {
    **{f"{panel['title']}, {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
    **{rule["record"]: rule["expr"] for rule in RECORDING_RULES},
    **{rule["alert"]: rule["expr"] for rule in ALERTS},
}

TARGET_LABELS = frozenset({"job", "instance"})  # Prometheus adds them to all metrics
SELECTOR = re.compile(r"\b(up|photoz[\w:]*|process_\w+)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")

# Possible values of labels. `status` can be any status of HTTP.
VALUES = {
    "flag": {flag.name for flag in Flag},
    "quantity": {Z_MEAN, Z_WIDTH68, OOD_SCORE},
    "route": set(LABELS),
    "method": set(METHODS),
}


@pytest.fixture(scope="module")
def labels(service_url):
    """The labels of metrics exported after a prediction, of `up`, and of recording rules, which keep those."""
    content = (ROOT / "examples" / "cutouts.npz").read_bytes()
    httpx.post(f"{service_url}/predict_file", content=content, timeout=60.0).raise_for_status()
    families = text_string_to_metric_families(httpx.get(f"{service_url}/metrics", timeout=60.0).text)
    labels = {sample.name: TARGET_LABELS.union(sample.labels) for family in families for sample in family.samples}
    labels["up"] = TARGET_LABELS
    for rule in RECORDING_RULES:
        labels[rule["record"]] = frozenset().union(*(labels[name] for name, _ in SELECTOR.findall(rule["expr"])))
    return labels


def test_queries_use_all_exported_metrics_with_labels_that_these_have(labels):
    used = set()
    for name, query in QUERIES.items():
        selectors, available = SELECTOR.findall(query), set()
        for metric, matchers in selectors:
            assert metric in labels, name
            assert {label for label, _, _ in MATCHER.findall(matchers)} <= labels[metric], name
            available |= labels[metric]
        groupings = ",".join(GROUPING.findall(query))
        assert set(re.findall(r"\w+", groupings)) <= available != set(), name
        for label, _, text in MATCHER.findall(query):
            assert label not in VALUES or set(text.split("|")) <= VALUES[label], name
        used |= {metric for metric, _ in selectors}
    used, exported = (
        {re.sub("_(bucket|sum|count)$", "", name) for name in names if name.startswith("photoz_")}
        for names in (used, labels)
    )
    assert used == exported


def test_panels_are_complete_and_their_legends_use_labels_that_the_queries_keep(labels):
    variables = {variable["name"]: variable["type"] for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"] == "datasource"
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert re.search(r"; .*\.$", panel["description"])  # what it shows; what to do
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for query, legend in ((target["expr"], target["legendFormat"]) for target in panel["targets"]):
            used = set(re.findall(r"\$(\w+)", query)) - {"__rate_interval", "1"}  # $1: of label_replace
            assert used <= variables.keys()
            selectors = SELECTOR.findall(query)
            assert all('job=~"$job", instance=~"$instance"' in matchers for _, matchers in selectors), query
            groupings = [set(re.split(r",\s*", names)) for names in re.findall(r"\bby \(([^)]*)\)", query)]
            kept = groupings or [labels[metric] for metric, _ in selectors]
            assert set(re.findall(r"{{(\w+)}}", legend)) <= set().union(*kept), query


def test_alerts_are_complete():
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", OPERATIONS, re.M)}
    for alert in ALERTS:
        assert alert["for"]
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert all(alert["annotations"][name] for name in ("summary", "description"))
        path, anchor = alert["annotations"]["runbook_url"].split("#")
        assert (path, anchor in anchors) == ("docs/operations.md", True)
        assert f"`{alert['alert']}`" in OPERATIONS


def test_prometheus_scrapes_the_jobs_of_the_alerts():
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text(encoding="utf-8"))
    matched = {text for rule in ALERTS for label, _, text in MATCHER.findall(rule["expr"]) if label == "job"}
    assert {job["job_name"] for job in config["scrape_configs"]} == matched
    assert config["rule_files"] == ["rules.yaml", "alerts.yaml"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool: apt install prometheus")
def test_promtool_accepts_the_configuration():
    for command in (
        "check config prometheus.yaml",
        "check rules rules.yaml alerts.yaml",
        "test rules alerts_test.yaml",
    ):
        done = subprocess.run(["promtool", *command.split()], cwd=PROMETHEUS, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
