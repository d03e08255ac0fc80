"""Addresses of this machine, which are asked directly and not by the environment's proxy."""

from ipaddress import ip_address


def past_proxy(address: str) -> list[tuple[str, int]]:
    """Options of a gRPC channel: a proxy could not reach a server of this machine."""
    host = address.removeprefix("dns:").lstrip("/").rpartition(":")[0].strip("[]")
    try:
        here = ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost" or host.endswith(".localhost")
    return [("grpc.enable_http_proxy", 0)] if here else []
