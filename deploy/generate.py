"""The dashboard, the alerts and what scales, from the one list of queries: `make deploy`.

python deploy/generate.py [FOLDER]
"""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
COLUMNS, WIDTH, HEIGHT = 24, 6, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Queries:
    def __init__(self, document: dict[str, Any]):
        self._parts, self._queries = document["parts"], document["queries"]

    def query(self, name: str, window: str, quantile: float | None = None) -> str:
        text = re.sub(r"\{(\w+)\}", lambda m: self._parts[m[1]], self._queries[name])
        return text.replace("$window", window).replace("$quantile", str(quantile))


def document() -> dict[str, Any]:
    return tomllib.loads((HERE / "queries.toml").read_text(encoding="utf-8"))


def targets(queries: Queries, panel: dict[str, Any], window: str) -> list[tuple[str, str]]:
    """(query, legend) of each line of a panel."""
    name, legend = panel["query"], panel.get("legend", panel["title"])
    if "quantiles" in panel:
        return [(queries.query(name, window, q), f"{q:.0%}") for q in panel["quantiles"]]
    return [(queries.query(name, window), legend)]


def dashboard(source: dict[str, Any]) -> dict[str, Any]:
    queries, panels = Queries(source), list[dict[str, Any]]()
    y = 0
    for row in source["rows"]:
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        panels.append({"type": "row", "title": row["title"], "gridPos": place, "panels": []})
        for i, panel in enumerate(row["panels"]):
            below, column = divmod(i, COLUMNS // WIDTH)
            place = {"x": WIDTH * column, "y": y + 1 + HEIGHT * below, "w": WIDTH, "h": HEIGHT}
            panels.append(_panel(queries, panel, place))
        y += 1 + HEIGHT * -(-len(row["panels"]) // (COLUMNS // WIDTH))
    choice = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}
    return {
        "title": "AlexNet server",
        "uid": "alexnet",
        "tags": ["alexnet"],
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "templating": {"list": [choice]},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


def _panel(queries: Queries, panel: dict[str, Any], place: dict[str, int]) -> dict[str, Any]:
    lines = targets(queries, panel, "$__rate_interval")
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.get("stacked") else {}
    return {
        "type": "timeseries",
        "title": panel["title"],
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel["unit"], "min": 0, "custom": custom}, "overrides": []
        },
        "targets": [
            {"refId": chr(65 + i), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for i, (query, legend) in enumerate(lines)
        ],
    }  # fmt: skip


def alerts(source: dict[str, Any]) -> dict[str, Any]:
    queries = Queries(source)
    return {"groups": [{"name": "alexnet", "rules": [_rule(queries, a) for a in source["alerts"]]}]}


def _rule(queries: Queries, alert: dict[str, Any]) -> dict[str, Any]:
    terms = []
    for term in alert["all"]:
        query = queries.query(term["query"], term.get("window", ""))
        terms.append(f"({query}) > {term['above']}" if "above" in term else query)
    return {
        "alert": alert["name"],
        "expr": " and ".join(terms),
        "for": alert["for"],
        "labels": {"severity": alert["severity"]},
        "annotations": {"summary": alert["summary"], "description": alert["action"]},
    }


def adapter(source: dict[str, Any]) -> dict[str, Any]:
    """Values for the chart of prometheus-adapter: the time in queues of each pod, for the HPA."""
    parts = source["parts"]
    series = 'alexnet_request_duration_seconds_sum{stage="decode_queue",namespace!="",pod!=""}'
    by_pod = {
        name: re.sub(r"sum\(", "sum by (<<.GroupBy>>) (", parts[name])
        .replace("$window", "2m")  # two scrapes of once a minute, the default of the chart
        .replace("{stage", "{<<.LabelMatchers>>, stage")
        for name in ("waited", "answered")
    }
    rule = {
        "seriesQuery": series,
        "resources": {
            "overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}
        },
        "name": {"as": "alexnet_queue_seconds"},
        "metricsQuery": f"{by_pod['waited']} / {by_pod['answered']}",
    }
    return {"rules": {"custom": [rule]}}


def _yaml(content: dict[str, Any]) -> str:
    text = yaml.safe_dump(content, sort_keys=False, width=1000, allow_unicode=True)
    return f"# Made from queries.toml by `make deploy`.\n{text}"


def files() -> dict[str, str]:
    source = document()
    return {
        "monitoring/grafana/alexnet.json": json.dumps(dashboard(source), indent=1) + "\n",
        "monitoring/alerts.yaml": _yaml(alerts(source)),
        "autoscaling/adapter-values.yaml": _yaml(adapter(source)),
    }


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for name, text in files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
