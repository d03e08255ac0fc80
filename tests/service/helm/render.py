"""render.py CHART VALUES: what Helm makes of it, as JSON; its words on stderr where it does not."""

import json
import sys

import helm_python as helm

with helm.Chart.load(sys.argv[1]) as chart:
    values = json.loads(sys.argv[2])
    chart.validate_schema(chart.merge_values(values))
    print(json.dumps(chart.render(values, name="alexnet", namespace="default")))
