"""The commands to type when a run has ended."""

import shlex
import shutil
import sys
from pathlib import Path

from training.sources import Sources


def next_steps(run: Path, sources: Sources) -> str:
    """How the model of `run` is exported and served; a bundle is never replaced, so the name is a
    new one."""
    model, number = Path("models") / run.name, 2
    while model.exists():
        model, number = Path("models") / f"{run.name}-{number}", number + 1
    export = [*_command("alexnet-export", "export"), str(run / "model.safetensors")]
    export += ["--photos", *map(str, sources.train or sources.val)]
    if sources.fraction is None:
        export += ["--val", *map(str, sources.val)]
    else:
        export += ["--val-fraction", f"{sources.fraction:g}"]
    export += ["--output", str(model)]
    serve = [*_command("alexnet-server", "server"), "--model", str(model)]
    lines = ["next, make a bundle of it and serve that:", f"  {shlex.join(export)}"]
    return "\n".join([*lines, f"  {shlex.join(serve)}"])


def _command(name: str, module: str) -> list[str]:
    """As it can be typed here: by its name, by its path in this environment, or as a module."""
    if shutil.which(name):
        return [name]
    beside = Path(sys.argv[0]).with_name(name)
    return [str(beside)] if beside.is_file() else [sys.executable, "-m", module]
