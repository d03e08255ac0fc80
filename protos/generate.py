"""Generated code: `python protos/generate.py FOLDER` writes that of every package (make proto).

The client is a distribution of its own, with a copy of its own. Where both are loaded they share
protobuf's one pool of descriptors, which takes a file once: so its name there is the same for both,
and one that no other program has. grpcio-tools is an old one: its code runs on protobuf 4.25 to 7
(ADR 30).
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from grpc_tools import protoc

HERE = Path(__file__).parent
FILES = {
    "alexnet/v1/classifier": ("protos", "alexnet_client"),
    "protos/oip": ("protos",),
    "protos/caffe": ("protos",),
}
"""Names in the pool -> the packages that have the code."""


def main(out: Path) -> None:
    for name, packages in FILES.items():
        pool, base = name.rsplit("/", 1)
        kinds = ["python", "pyi"]
        if "\nservice " in (HERE / f"{base}.proto").read_text():
            kinds.append("grpc_python")
        with TemporaryDirectory() as made:
            outputs = [f"--{kind}_out={made}" for kind in kinds]
            if protoc.main(["protoc", f"-I{pool}={HERE}", *outputs, f"{name}.proto"]):
                sys.exit(1)
            for file in (Path(made) / pool).iterdir():
                for package in packages:
                    (out / package).mkdir(parents=True, exist_ok=True)
                    code = movable(file.read_text(), name.replace("/", "."))
                    (out / package / file.name).write_text(code)


def movable(code: str, module: str) -> str:
    """protoc takes the name in the pool for the place of the module."""
    parent = module.rpartition(".")[0]
    return code.replace(f"from {parent} import", "from . import").replace(
        f"'{module}_pb2'", "__name__"
    )


main(Path(sys.argv[1]))
