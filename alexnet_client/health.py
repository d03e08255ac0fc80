"""gRPC's health protocol, as much of it as is asked here: an empty message, answered by a number.

grpcio-health-checking would do the same, and each release of it demands the newest grpcio and
protobuf; programs that also use tritonclient or kserve have older ones.
"""

SERVICE = "grpc.health.v1.Health"
CHECK = f"/{SERVICE}/Check"
ANY_SERVICE = b""
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
"""Field 1 of HealthCheckResponse, an enumeration: its number as protobuf writes it."""
