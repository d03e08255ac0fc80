"""Our client beside Triton's, in one process, on the protobuf that Triton's pins."""

# mypy: disable-error-code="import-not-found"

from importlib.metadata import requires, version

import tritonclient.grpc as triton
from given import GRPC, LABELS, PHOTOS, check, photos

from alexnet_client.client import Client


def test_both_are_answered_in_one_process() -> None:
    pinned = [needed for needed in requires("tritonclient") or () if "protobuf" in needed]
    assert all("<7" in needed for needed in pinned)
    assert version("protobuf").startswith("6.")
    with triton.InferenceServerClient(GRPC) as theirs, Client(GRPC) as ours:
        check(theirs.infer("alexnet", [photos(triton)]))
        best = [ours.classify(photo, top_k=1).predictions[0].label for photo in PHOTOS]
    assert set(best) <= set(LABELS)
