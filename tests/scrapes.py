"""What a scrape says, sample by sample."""

import re
from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def families(text: str) -> Iterator[Metric]:
    """Triton's counters lack the `_total` that this parser would add to the name of a counter;
    Prometheus itself takes them as they are."""
    text = re.sub(r"(?m)^(# TYPE nv_\w+) counter$", r"\1 untyped", text)
    yield from text_string_to_metric_families(text)


def samples(text: str) -> list[Sample]:
    return [sample for family in families(text) for sample in family.samples]


def total(text: str, name: str, **labels: str) -> float:
    """Of the samples that have these labels, and maybe more."""
    return sum(
        sample.value
        for sample in samples(text)
        if sample.name == name and labels.items() <= sample.labels.items()
    )
