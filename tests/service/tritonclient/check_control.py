"""The repository extension, on a server of its own that was started with it."""

# mypy: disable-error-code="import-not-found"

from typing import Any

import pytest
from given import CLIENTS, check, photos
from tritonclient.utils import InferenceServerException


@pytest.mark.parametrize("name", CLIENTS)
def test_versions_are_listed_unloaded_and_loaded(name: str) -> None:
    module, url = CLIENTS[name]

    def entries(client: Any) -> list[tuple[str, str, str]]:
        index = client.get_model_repository_index()
        rows = index if isinstance(index, list) else index.models
        return [
            tuple(r[key] if isinstance(r, dict) else getattr(r, key) for key in KEYS) for r in rows
        ]

    with module.InferenceServerClient(url) as client:
        assert entries(client) == [("alexnet", "1", "READY"), ("alexnet_pixels", "1", "READY")]
        client.unload_model("alexnet", unload_dependents=True)
        assert {state for _, _, state in entries(client)} == {"UNAVAILABLE"}
        assert not client.is_model_ready("alexnet")
        assert not client.is_server_ready()
        with pytest.raises(InferenceServerException) as caught:
            client.infer("alexnet", [photos(module)])
        assert caught.value.status() in ("StatusCode.UNAVAILABLE", "503")
        client.load_model("alexnet")
        assert client.is_model_ready("alexnet")
        check(client.infer("alexnet", [photos(module)]))
        for wrong in ({"config": "{}"}, {"model_name": "resnet"}):
            with pytest.raises(InferenceServerException):
                client.load_model(**{"model_name": "alexnet", **wrong})


KEYS = ("name", "version", "state")
