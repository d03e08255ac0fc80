"""Whether the server of this container is ready: the container's health check.

    python -m server.healthcheck

The port is where the server listens, whatever says so: the flags of process 1 (or what an init
process started), the environment, or the file. No proxy is asked, and no certificate
is checked: it is for the names that callers use. Exit code 0 or 1.
"""

import http.client
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from server.config import ConfigError
from server.options import load
from server.ports import EVERYWHERE

TIMEOUT_S = 2.0


def main() -> None:
    try:
        config = load(flags(Path("/proc/1/cmdline").read_bytes()))
        host = "127.0.0.1" if config.host in EVERYWHERE else config.host
        said = ask(host, config.metrics_port, bool(config.tls_certificate))
    except (ConfigError, OSError, http.client.HTTPException) as error:
        said = str(error) or type(error).__name__
    if said:
        sys.exit(f"not ready: {said}")


def flags(command: bytes) -> Sequence[str]:
    """Of the server in a command line as /proc has it; none where it is another program's."""
    words = [word.decode(errors="surrogateescape") for word in command.split(b"\0")][:-1]
    for number, word in enumerate(words):
        if Path(word).name == "alexnet-server":
            return words[number + 1 :]
    return []


def ask(host: str, port: int, tls: bool = False) -> str:
    """What the readiness probe says; empty when it is yes. Raises OSError, HTTPException."""
    connection = _connection(host, port, tls)
    try:
        connection.request("GET", "/readyz")
        reply = connection.getresponse()
        body = reply.read().decode(errors="replace")
        return "" if reply.status == 200 else body
    finally:
        connection.close()


def _connection(host: str, port: int, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


if __name__ == "__main__":
    main()
