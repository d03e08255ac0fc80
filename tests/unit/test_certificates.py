"""TLS certificates as files: what can be served with, until when, and what is exchanged."""

import shutil
from pathlib import Path

import pytest

from server.certificates import Certificates
from server.watched import Unusable
from tests.certificates import NEEDS_OPENSSL, Authority, openssl

pytestmark = NEEDS_OPENSSL


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def opened(pair: tuple[str, str], client_ca: Path | None = None) -> Certificates:
    certificate, key = map(Path, pair)
    return Certificates(certificate, key, client_ca)


def test_the_days_until_it_ends(authority: Authority) -> None:
    certificates = opened(authority.sign("server", days=20))
    assert 19.9 < certificates.days_left() <= 20
    assert not certificates.mutual
    assert opened(authority.sign("server"), authority.certificate).mutual


def test_one_that_has_ended_is_served_and_says_so(authority: Authority) -> None:
    try:
        pair = authority.sign("ended", days=-2)
    except Exception:  # which openssl allows depends on its version
        pytest.skip("this openssl signs nothing that has ended")
    assert -2.1 < opened(pair).days_left() < -1.9


def test_what_cannot_be_served_is_told(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("server")
    _, other = authority.sign("other")
    with pytest.raises(Unusable, match="are no certificate and its key: key values mismatch"):
        opened((certificate, other))
    with pytest.raises(Unusable, match=r"absent.pem cannot be read: No such file"):
        opened((str(tmp_path / "absent.pem"), key))
    (tmp_path / "text.pem").write_text("text")
    with pytest.raises(Unusable, match="are no certificate and its key"):
        opened((str(tmp_path / "text.pem"), key))
    with pytest.raises(Unusable, match=r"text.pem has no certificates"):
        opened((certificate, key), tmp_path / "text.pem")
    locked = tmp_path / "locked.key"
    openssl("ec", "-in", key, "-aes128", "-passout", "pass:secret", "-out", str(locked))
    with pytest.raises(Unusable, match="without a passphrase"):
        opened((certificate, str(locked)))


def test_one_that_is_for_clients_only_is_refused_at_the_start(authority: Authority) -> None:
    pair = authority.sign("client", more="extendedKeyUsage=clientAuth\n")
    with pytest.raises(Unusable, match="of no use to callers"):
        opened(pair)


async def test_they_are_exchanged_together_or_not_at_all(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = tmp_path / "served.pem", tmp_path / "served.key"

    def put(name: str, *places: int) -> None:
        pair = authority.sign(name)
        for place in places:
            shutil.copyfile(pair[place], served[place])

    put("first", 0, 1)
    certificates = Certificates(*served, None)
    first, told = certificates.shown, 0

    async def follow() -> None:
        nonlocal told
        told += 1

    certificates.followers.append(follow)
    await certificates.refresh()
    assert certificates.shown is first
    put("second", 0)
    await certificates.refresh()
    assert certificates.shown is first
    assert "stay as they were" in caplog.text
    assert told == 0
    shutil.copyfile(authority.folder / "second.key", served[1])
    await certificates.refresh()
    assert certificates.shown.certificate == (authority.folder / "second.pem").read_bytes()
    assert told == 1
