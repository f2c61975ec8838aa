"""Print the rules and alerts of deploy/prometheus as a PrometheusRule, for Prometheus by its operator.

python deploy/kubernetes/prometheus_rule.py | kubectl apply -n photoz -f -

Kustomize cannot put the content of a file into a field, and a copy would grow old. This needs nothing but Python.
"""

import textwrap
from pathlib import Path

PROMETHEUS = Path(__file__).resolve().parents[1] / "prometheus"

HEAD = """\
# Made by deploy/kubernetes/prometheus_rule.py from deploy/prometheus
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: photoz
  labels:
    app.kubernetes.io/name: photoz
spec:
  groups:
"""


def groups(path: Path) -> str:
    """Return what stands below `groups:` in a file of rules, comments included."""
    return path.read_text(encoding="utf-8").partition("\ngroups:\n")[2]


def main() -> None:
    """Print it."""
    parts = [textwrap.indent(groups(PROMETHEUS / name), "  ") for name in ("rules.yaml", "alerts.yaml")]
    print(HEAD + "\n".join(parts), end="")


if __name__ == "__main__":
    main()
