"""API keys: what a file may say, how a key is found and counted, and that no secret is told."""

import asyncio
import hmac
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.allowance import Allowance
from server.errors import RateLimited
from server.keys import EXAMPLE, Keys, main
from server.watched import Unusable

SECRET = "alexnet_a-secret"


def entry(name: str = "shop", secret: str = SECRET, more: str = "") -> str:
    return f'[{name}]\nhash = "sha256:{sha256(secret.encode()).hexdigest()}"\n{more}\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "keys.toml"
    path.write_text(text)
    return path


def test_a_key_is_found_by_its_secret_and_may_do_what_the_file_says(tmp_path: Path) -> None:
    more = 'rate = 2.5\npriority = 2\nversions = ["1", "3"]\nmanage = true'
    keys = Keys(written(tmp_path, entry(more=more) + entry("other", "b")), None)
    key = keys.find(SECRET.encode())
    assert key is not None
    assert (key.name, key.rate, key.priority, key.manage) == ("shop", 2.5, 2, True)
    assert key.versions == {"1", "3"}
    other = keys.find(b"b")
    assert other is not None
    assert (other.rate, other.priority, other.versions, other.manage) == (
        0,
        None,
        frozenset(),
        False,
    )
    assert keys.find(b"c") is None
    assert SECRET not in repr(key)
    assert sha256(SECRET.encode()).digest() not in repr(key).encode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "1 to 1000 keys, not 0"),
        ("[shop", "no TOML"),
        ("shop = 1", "shop must be a table"),
        ("[shop]", "python -m server.keys shop"),
        (f'[shop]\nhash = "{SECRET}"', "of the key and not the key itself"),
        (entry(more="rate = 0"), "rate of .shop. must be a number"),
        (entry(more="rate = nan"), "rate of .shop. must be a number"),
        (entry(more="rate = true"), "rate of .shop. must be a number"),
        (entry(more="priority = 9"), "priority of .shop. must be a level"),
        (entry(more='versions = "1"'), "versions of .shop. must be versions as text"),
        (entry(more="manage = 1"), "manage of .shop. must be true or false"),
        (entry(more=f'secret = "{SECRET}"'), "has more than hash, rate"),
        (entry('"a b"'), "the name of a key"),
        (entry("a") + entry("b"), "two keys of the same hash"),
    ],
)
def test_a_mistake_is_told_without_what_stands_in_the_file(
    tmp_path: Path, text: str, why: str
) -> None:
    with pytest.raises(Unusable, match=why) as told:
        Keys(written(tmp_path, text), None)
    assert "keys.toml" in str(told.value)
    assert SECRET not in str(told.value)


async def test_a_file_that_cannot_be_used_leaves_the_keys_that_there_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(written(tmp_path, entry()), None)
    written(tmp_path, "[shop")
    await keys.refresh()
    assert keys.find(SECRET.encode())
    assert "the API keys stay as they were" in caplog.text
    caplog.clear()
    await keys.refresh()
    assert not caplog.text  # it is told once
    written(tmp_path, entry(secret="new"))
    await keys.refresh()
    assert keys.find(SECRET.encode()) is None
    assert keys.find(b"new")


@pytest.mark.parametrize("secret", ["first", "last", "none"])
def test_a_secret_is_compared_with_every_key(
    tmp_path: Path, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same time each, so that how long it takes tells nothing."""
    names = "first", "other", "last"
    keys = Keys(written(tmp_path, "".join(entry(n, secret=n) for n in names)), None)
    compared: list[bool] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append(hmac.compare_digest(a, b))
        return compared[-1]

    monkeypatch.setattr("server.keys.hmac", SimpleNamespace(compare_digest=compare))
    found = keys.find(secret.encode())
    assert (found and found.name) == (secret if secret in names else None)
    assert len(compared) == len(names)


async def test_an_exchanged_key_keeps_what_it_has_spent(tmp_path: Path) -> None:
    keys = Keys(written(tmp_path, entry(more="rate = 1")), None)
    first = keys.find(SECRET.encode())
    assert first
    first.spend()
    written(tmp_path, entry(secret="new", more="rate = 1"))
    await asyncio.gather(keys.refresh(), keys.refresh())
    again = keys.find(b"new")
    assert again
    with pytest.raises(RateLimited, match="1 photos a second") as refused:
        again.spend()
    assert refused.value.retry_after_s == pytest.approx(1, abs=0.1)


def test_a_seconds_worth_at_once_and_then_the_rate() -> None:
    allowance, now = Allowance(), 1000.0
    assert [allowance.spend(1, 4, now) for _ in range(4)] == [0] * 4
    assert allowance.spend(1, 4, now) == pytest.approx(0.25)
    assert allowance.spend(1, 4, now + 0.25) == 0
    assert allowance.spend(8, 4, now + 0.25, debt=True) == 0
    assert allowance.spend(1, 4, now + 1.25) == pytest.approx(1.25)
    assert allowance.spend(1, 4, now + 60) == 0


def test_less_than_one_a_second() -> None:
    allowance = Allowance()
    assert allowance.spend(1, 0.1, 1000) == 0
    assert allowance.spend(1, 0.1, 1004) == pytest.approx(6)
    assert allowance.spend(1, 0.1, 1010) == 0


def test_workers_count_together(tmp_path: Path) -> None:
    one, other = Allowance(tmp_path / "shop.rate"), Allowance(tmp_path / "shop.rate")
    now = time.monotonic()
    assert one.spend(1, 2, now) == other.spend(1, 2, now) == 0
    assert one.spend(1, 2, now) == other.spend(1, 2, now) == pytest.approx(0.5)
    assert (tmp_path / "shop.rate").stat().st_mode & 0o077 == 0


def test_the_command_makes_a_key_that_the_file_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["alexnet-key", "shop"])
    main()
    shown = capsys.readouterr().out
    secret = next(line for line in shown.splitlines() if line.startswith("alexnet_"))
    keys = Keys(written(tmp_path, shown[shown.index("[shop]") :].replace("\n# ", "\n")), None)
    key = keys.find(secret.encode())
    assert key
    assert (key.name, key.rate, key.priority, key.versions) == ("shop", 50, 2, frozenset({"1"}))
    assert shown.count(secret) == 1
    assert len(secret) > 40
    assert EXAMPLE.splitlines()[-1] in shown


@pytest.mark.process
def test_the_command_refuses_a_name_that_could_not_stand_in_the_log() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "server.keys", "a b"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "1 to 64 letters" in run.stderr
