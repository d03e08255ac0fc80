"""The id that ties a reply to the log: the caller's own, or one made up here."""

import re
from random import getrandbits

from server.errors import BadRequest

# What may stand in a header, a log line and a URL without quoting.
_VALID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def checked_request_id(given: str) -> str:
    """Raises BadRequest for an id that could break a log line or a header."""
    if not given:
        return f"{getrandbits(128):032x}"
    if not _VALID.fullmatch(given):
        raise BadRequest("a request id has 1 to 128 letters, digits or . _ : / + = @ -")
    return given
