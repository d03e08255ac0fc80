"""What is installed only where it is asked for, the extras of pyproject.toml, and how to ask."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from alexnet import __version__

CHECKOUT = Path(__file__).parents[1] / "pyproject.toml"


def installing(extra: str) -> str:
    """How to; not from an index, where the name is another project's."""
    if CHECKOUT.exists():
        return f"pip install '.[{extra}]' in the checkout"
    wheel = f"alexnet-{__version__}-py3-none-any.whl[{extra}]"
    return f"pip install '{wheel}', with the path of the wheel"


@contextmanager
def needing(extra: str, command: str) -> Iterator[None]:
    """Around imports; ends the command with one sentence where one of them is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or find_spec(package):
            raise  # it is installed, and the fault is ours
        sys.exit(f"{command}: {package} is not installed: {installing(extra)}")
