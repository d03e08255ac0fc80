"""A short run of the fuzzer, always the same; the long one is python -m tests.fuzz."""

from itertools import islice
from random import Random

import pytest

from tests.fuzz.mutations import mutated, parts
from tests.fuzz.search import Finding, fault, search, shrunk
from tests.fuzz.targets import Target, targets

TARGETS = targets()
INPUTS = 150


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(name: str) -> None:
    results = islice(search(name, TARGETS[name], Random(0)), INPUTS)
    assert [(finding.why, finding.data[:200]) for finding in results if finding] == []


@pytest.mark.parametrize("name", TARGETS)
def test_the_parts_of_a_seed_joined_are_the_seed(name: str) -> None:
    for seed in TARGETS[name].seeds:
        assert b"".join(parts(seed)) == seed
        assert len(parts(seed)) > 1 or name in ("graph", "grpc", "golden")
        assert mutated(seed, Random(1)) == mutated(seed, Random(1))


def _picky(data: bytes) -> None:
    if b"bug" in data:
        raise KeyError("a bug")
    if b"long" in data:
        bytearray(100 << 20)
    raise ValueError("as it should be")


PICKY = Target(_picky, (b"fine",), (ValueError,))


def test_a_foreign_error_and_too_much_memory_are_faults() -> None:
    assert fault(PICKY, b"fine") == ""
    assert "KeyError" in fault(PICKY, b"a bug")
    assert "memory" in fault(PICKY, b"long", count_memory=True)


def test_a_finding_is_made_small() -> None:
    data = b"x, y" * 500 + b"bug" + b"z\n" * 333
    assert shrunk(PICKY, Finding("picky", fault(PICKY, data), data)).data == b"bug"
