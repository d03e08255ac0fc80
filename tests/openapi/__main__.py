"""The OpenAPI document without a server; `make openapi` writes what this prints."""

import json
import re
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
    """Of the public port, without patterns; tests/service/test_docs_page.py proves that these are
    all."""
    nothing: Any = None  # no handler is called
    control = RepositoryControl(OipModels(nothing), nothing, "off")
    found = [
        *ClassifyHttp(nothing).routes(),
        *InsideHttp(nothing, nothing).routes(),
        *HuggingFace(nothing).routes(),
        *OipHttp(nothing, control).routes(),
        *TensorFlow(control.models).routes(),
        *Probes(nothing).routes(),
        *Pages(0).routes(),
    ]
    return [
        web.RouteDef(r.method, re.sub(r"{(\w+):.*?}", r"{\1}", r.path), r.handler, r.kwargs)
        for r in found
    ]


def text() -> str:
    return json.dumps(document(routes()), indent=1) + "\n"


if __name__ == "__main__":
    print(text(), end="")
