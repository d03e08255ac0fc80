"""The OpenAPI document without a server; `make openapi` writes what this prints."""

import json
from typing import Any

from aiohttp import web

from server.api.classify_http import ClassifyHttp
from server.api.huggingface import HuggingFace
from server.api.inside import InsideHttp
from server.api.oip.control import RepositoryControl
from server.api.oip.http import OipHttp
from server.api.oip.models import OipModels
from server.api.probes import Probes
from server.api.tensorflow import TensorFlow
from server.api.web.pages import Pages
from tests.openapi.document import document
from tests.paths import ROOT

COMMITTED = ROOT / "server" / "api" / "web" / "openapi.json"


def routes() -> list[web.RouteDef]:
    """Of the public port. That these are all, tests/service/test_docs_page.py proves."""
    nothing: Any = None  # no handler is called
    control = RepositoryControl(OipModels(nothing), nothing, "off")
    return [
        *ClassifyHttp(nothing).routes(),
        *InsideHttp(nothing, nothing).routes(),
        *HuggingFace(nothing).routes(),
        *OipHttp(nothing, control).routes(),
        *TensorFlow(control.models).routes(),
        *Probes(nothing).routes(),
        *Pages(0).routes(),
    ]


def text() -> str:
    return json.dumps(document(routes()), indent=1) + "\n"


if __name__ == "__main__":
    print(text(), end="")
