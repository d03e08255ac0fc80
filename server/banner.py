"""What the operator reads when the server is up: what is served, how well, and a line to paste."""

from alexnet import __version__
from server.scheduler.pipeline import Pipeline


def banner(
    served: list[Pipeline],
    host: str,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    decode_threads: int,
    workers: int = 1,
) -> str:
    if not served:  # after an unload a new worker serves nothing, either
        return "nothing is served, as was asked for"
    model = served[-1].model
    manifest, artifact, engine = model.bundle.manifest, model.artifact, model.engine
    accuracy = artifact.accuracy
    # An address that means "every interface" cannot be pasted into curl.
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = f"[{shown}]" if ":" in shown else shown
    measured = "not measured"
    if accuracy:
        measured = f"top-1 {accuracy.top1:.1%}, top-5 {accuracy.top5:.1%} on {accuracy.data}"
    each = f" in each of {workers} workers" if workers > 1 else ""
    rows = {
        "model": f"{model.name}, " + ", ".join(map(_version, served)),
        "knows": manifest.model.description,
        "accuracy": measured,
        "artifact": f"{artifact.file} on {', '.join(e.name for e in model.engines)}",
        "threads": f"engine {engine.threads}, decode {decode_threads}{each}",
        "REST": f"http://{shown}:{http_port} (a page to try it: /docs)",
        "gRPC": f"{shown}:{grpc_port} (with reflection and health)",
        "metrics": f"http://{shown}:{metrics_port}/metrics",
    }
    lines = [f"  {name:<9} {value}" for name, value in rows.items()]
    try_it = f"  curl -T photo.jpg http://{shown}:{http_port}/v1/classify"
    return "\n".join(["", f"AlexNet server {__version__}", "", *lines, "", "Try it:", try_it, ""])


def _version(served: Pipeline) -> str:
    return f"version {served.number} ({served.model.build})"
