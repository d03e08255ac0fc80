"""The card of a bundle."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from alexnet.bundle import Bundle
from export.card import card
from tests.paths import STARTER


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"lineage": ["a"], "run_minutes": 398.3}, "398.3 minutes, commit"),
        ({"lineage": ["a"]}, "398.3 minutes, commit"),
        ({"lineage": ["a", "b"], "run_minutes": 0.8}, "0.8 minutes (398.3 with the runs before),"),
        ({"lineage": ["a", "b"]}, "398.3 minutes with the runs before, commit"),
    ],
)
def test_the_minutes_of_the_last_run_are_told_from_those_of_all(
    facts: dict[str, Any], said: str
) -> None:
    manifest = Bundle.open(STARTER).manifest
    provenance = replace(manifest.provenance, train_minutes=398.3)
    network = SimpleNamespace(arch="alexnet")
    model: Any = SimpleNamespace(labels=range(1000), known=3, facts=facts, network=network)
    assert said in card(replace(manifest, provenance=provenance), model)
