"""Photos in JSON: base64, as the programs write it that send it."""

import binascii
import re

_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_OF_URLS = str.maketrans("-_", "+/")


def decoded(text: str) -> bytes:
    """Of base64 or of a data URL; lines may be broken, and be padded or not, in either alphabet.
    Raises ValueError for text that is none, TypeError for what is no text."""
    url = _DATA_URL.match(text)
    plain = "".join(text[url.end() if url else 0 :].split())
    if "-" in plain or "_" in plain:
        plain = plain.translate(_OF_URLS)
    return binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
