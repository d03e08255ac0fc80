"""Which versions are served, and which of them answers a request."""

from dataclasses import dataclass

import pytest

from server.models.policy import VersionPolicy


@dataclass(frozen=True)
class Found:
    version: str


FOUND = [Found("1"), Found("2"), Found("10")]


@pytest.mark.parametrize(
    ("versions", "wanted"),
    [
        ("latest", ["10"]),
        ("latest:2", ["2", "10"]),
        ("latest:9", ["1", "2", "10"]),
        ("all", ["1", "2", "10"]),
        ("1,10", ["1", "10"]),
        ("3", []),
    ],
)
def test_the_policies_are_those_of_triton(versions: str, wanted: list[str]) -> None:
    assert [found.version for found in VersionPolicy(versions).wanted(FOUND)] == wanted


@pytest.mark.parametrize("versions", ["", "newest", "latest:0", "latest:", "0", "01", "1,", "-1"])
def test_an_invalid_policy_is_refused(versions: str) -> None:
    with pytest.raises(ValueError, match="is not latest"):
        VersionPolicy(versions)


@pytest.mark.parametrize("weights", ["1", "1=", "=5", "1=5,", "1=5;2=5", "1=-5", "a=5"])
def test_invalid_shares_are_refused(weights: str) -> None:
    with pytest.raises(ValueError, match="list of shares"):
        VersionPolicy(weights=weights)


def test_without_shares_the_latest_gets_all_requests() -> None:
    assert {VersionPolicy().pick(["1", "2", "10"], i / 10) for i in range(10)} == {"10"}


def test_shares_are_kept() -> None:
    policy = VersionPolicy(weights="1=90,2=10")
    picked = [policy.pick(["1", "2"], i / 1000) for i in range(1000)]
    assert picked.count("1") == 900
    assert picked.count("2") == 100


def test_the_share_of_a_version_that_is_not_served_falls_to_the_others() -> None:
    policy = VersionPolicy(weights="1=90,2=10")
    assert {policy.pick(["2", "3"], i / 10) for i in range(10)} == {"2"}
    assert policy.pick(["3"], 0.5) == "3"


def test_a_version_with_a_share_of_zero_is_never_picked() -> None:
    policy = VersionPolicy(weights="1=1,2=0")
    assert {policy.pick(["1", "2"], i / 10) for i in range(10)} == {"1"}
