"""What the operator reads when the server is up: what is served, how well, and a line to paste."""

from alexnet import __version__
from alexnet.manifest import Manifest
from server.door import Door
from server.ports import EVERYWHERE
from server.scheduler.pipeline import Pipeline

OPEN = Door()


def banner(
    served: list[Pipeline],
    host: str,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    decode_threads: int,
    workers: int = 1,
    door: Door = OPEN,
) -> str:
    if not served:  # after an unload a new worker serves nothing, either
        return "nothing is served, as was asked for"
    model = served[-1].model
    manifest, artifact, engine = model.bundle.manifest, model.artifact, model.engine
    accuracy = artifact.accuracy
    # An address that means "every interface" cannot be pasted into curl.
    shown = "127.0.0.1" if host in EVERYWHERE else host
    shown = f"[{shown}]" if ":" in shown else shown
    scheme, secured = ("https", "TLS, ") if door.certificates else ("http", "")
    measured = "not measured"
    if accuracy:
        measured = f"{accuracy.in_words(manifest.learnt_classes)} on {accuracy.data}"
    each = f" in each of {workers} workers" if workers > 1 else ""
    rows = {
        "model": f"{model.name}, " + ", ".join(map(_version, served)),
        "knows": manifest.model.description,
        **_taught(manifest),
        "accuracy": measured,
        "artifact": f"{artifact.file} on {', '.join(e.name for e in model.engines)}",
        "threads": f"engine {engine.threads}, decode {decode_threads}{each}",
        "REST": f"{scheme}://{shown}:{http_port} (a page to drop photos on)",
        "gRPC": f"{shown}:{grpc_port} ({secured}with reflection and health)",
        "metrics": f"{scheme}://{shown}:{metrics_port}/metrics",
        **_asked(door),
    }
    lines = [f"  {name:<9} {value}" for name, value in rows.items()]
    try_it = f"  curl{_shown(door)} -T photo.jpg {scheme}://{shown}:{http_port}/v1/classify"
    return "\n".join(["", f"AlexNet server {__version__}", "", *lines, "", "Try it:", try_it, ""])


def _asked(door: Door) -> dict[str, str]:
    asked = ["a client certificate"] if door.wants_certificate else []
    asked += ["an API key"] if door.keys else []
    return {"asks for": " and ".join(asked)} if asked else {}


def _shown(door: Door) -> str:
    """What curl has to show."""
    certificate = " --cert client.pem --key client.key" if door.wants_certificate else ""
    return certificate + (' -H "Authorization: Bearer $ALEXNET_API_KEY"' if door.keys else "")


def _taught(manifest: Manifest) -> dict[str, str]:
    taught = manifest.taught
    if taught is None:
        return {}
    labelled = f"{manifest.model.known_classes} classes by labelled photos"
    more = f", {taught.classes} by" if taught.classes else " and"
    return {"taught": f"{labelled}{more} {taught.teacher}'s answers to {taught.photos:,} photos"}


def _version(served: Pipeline) -> str:
    return f"version {served.number} ({served.model.build})"
