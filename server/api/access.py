"""What is checked of every request, whatever protocol it came by, before its handler runs.

The HTTP middleware and the gRPC interceptor call this: what holds for both is said here.
"""

import re
from collections.abc import Mapping
from random import getrandbits

from server.errors import BadRequest
from server.telemetry import logs

REQUEST_ID = "x-request-id"
# What may stand in a header, a log line and a URL without quoting.
VALID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def check(headers: Mapping[str, str]) -> str:
    """The request's id: the caller's own, or a new one. Raises a ServeError."""
    return identify(headers.get(REQUEST_ID, ""))


def identify(given: str) -> str:
    """Ties what follows in the log to this id, or to a new one. Raises BadRequest for an id that
    could break a log line or a header."""
    if not given:
        given = f"{getrandbits(128):032x}"
    elif not VALID.fullmatch(given):
        raise BadRequest("a request id has 1 to 128 letters, digits or . _ : / + = @ -")
    logs.request_id.set(given)
    return given
