"""What is checked of every request, whatever protocol it came by, before its handler runs.

The HTTP middleware and the gRPC interceptor call this: what holds for both is said here.
"""

import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from random import getrandbits

from server.door import Door
from server.errors import Disabled, Unauthenticated
from server.keys import Key, Keys, caller
from server.telemetry import logs, visits

REQUEST_ID = "x-request-id"
# What may stand in a header, a log line and a URL without quoting.
VALID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


# What asks for no key: for probes, which have no key, and for people, a page without data.
OPEN = {
    "/", "/model", "/docs", "/openapi.json", "/web/{asset}", "/livez", "/readyz",
    "/v2/health/live", "/v2/health/ready",
    "/v2/models/{model}/ready", "/v2/models/{model}/versions/{version}/ready",
    "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
    "/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady",
    "/inference.GRPCInferenceService/ModelReady",
}  # fmt: skip
# Where RepositoryControl asks for more than a key: the loopback, or a key that may manage.
MANAGEMENT = {
    "/v2/repository/index", "/v2/repository/models/{model}/load",
    "/v2/repository/models/{model}/unload", "/inference.GRPCInferenceService/RepositoryIndex",
    "/inference.GRPCInferenceService/RepositoryModelLoad",
    "/inference.GRPCInferenceService/RepositoryModelUnload",
}  # fmt: skip


def authenticate(
    door: Door,
    headers: Mapping[str, str],
    target: str,
    certified: bool = True,
    stream: bool = False,
) -> None:
    """Finds the `caller`. `target` is a route or a gRPC method, `certified` whether the connection
    showed a certificate; each message of a `stream` is counted when it comes. Raises
    Unauthenticated, RateLimited."""
    caller.set(None)  # of the request before it, over the same connection
    if target in OPEN:
        return
    if door.wants_certificate and not certified:
        raise Unauthenticated("this server asks for a client certificate, and none was shown")
    if door.keys is None:
        return
    key = _key(door.keys, headers)
    if key is None:
        if target in MANAGEMENT:
            return
        raise Unauthenticated(
            "this server asks for an API key: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
        )
    caller.set(key)
    if visit := visits.current.get():
        visit.key = key.name
    if not stream:
        key.spend()


def _key(keys: Keys, headers: Mapping[str, str]) -> Key | None:
    """None where none is shown. Raises Unauthenticated for one that is not known."""
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        shown = headers.get("x-api-key", "")
    if not (shown := shown.strip()):
        return None
    key = keys.find(shown.encode(errors="surrogateescape"))
    if key is None:
        raise Unauthenticated("this API key is not known here")
    return key


READS = {"GET", "HEAD", "OPTIONS"}


def check_page(method: str, headers: Mapping[str, str], origins: Collection[str]) -> None:
    """Any page that a browser here shows may send requests to this server, and the browser asks
    nothing before a plain POST. Raises Disabled for what changes or costs something, from a page
    that is not this server's and of none of the `origins`."""
    if method in READS or allowed_origin(headers, origins):
        return
    site, origin = headers.get("sec-fetch-site", ""), headers.get("origin")
    if site in ("same-origin", "none"):  # no page can write this header
        return
    if site or (origin is not None and origin.partition("://")[2] != headers.get("host")):
        page = repr((origin or site)[:100])
        raise Disabled(f"{method} is not open to pages of other sites, and this one is of {page}")


def allowed_origin(headers: Mapping[str, str], origins: Collection[str]) -> str:
    """What Access-Control-Allow-Origin says; empty where it says nothing."""
    origin = headers.get("origin", "")
    if not origin:
        return ""
    return "*" if "*" in origins else origin if origin in origins else ""


def check_host(host: str, listening: str, names: Collection[str] = ()) -> None:
    """A foreign name that resolves to the loopback makes a foreign page one of this server's.
    `listening` is our end of the connection. Raises Disabled for a name that is neither the
    loopback's nor of the `names`, where the connection is."""
    if not is_loopback(listening) or "*" in names:
        return
    name = re.sub(r":\d*$", "", host.lower()).rstrip(".").strip("[]")
    own = name in ("", "localhost") or name.endswith(".localhost") or _is_address(name)
    if not own and name not in names:
        raise Disabled(
            f"on the loopback this server is localhost, not {name[:100]!r}: behind a proxy, start "
            f"it with --allowed-hosts {name[:100]}"
        )


def is_loopback(address: str) -> bool:
    """Also of an IPv4 address as a socket of both families shows it, ::ffff:127.0.0.1, which Python
    before 3.13 does not take for one. What is no address is none."""
    if not _is_address(address):
        return False
    found = ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def identify(given: str | bytes) -> str:
    """Ties what follows in the log to this id; to a new one where there is none, or one that could
    break a log line or a header."""
    if not isinstance(given, str) or not VALID.fullmatch(given):
        given = f"{getrandbits(128):032x}"
    logs.request_id.set(given)
    return given
