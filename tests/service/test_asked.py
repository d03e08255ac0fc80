"""What a caller may ask for beside the five best classes, over REST and gRPC."""

import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import numpy as np
import pytest
from PIL import Image

from alexnet.bundle import Bundle
from alexnet.postprocess import softmax
from alexnet.preprocess import preprocess
from alexnet.ten_views import cut_ten_views, of_the_square
from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server.engines.on_cpu import open_on_cpu
from tests.fakes import faking, flat
from tests.paths import STARTER
from tests.photos import jpeg
from tests.processes import ServerProcess

pytestmark = pytest.mark.process

PHOTO = jpeg(320, 240)


@pytest.fixture
async def stub(server: ServerProcess) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        yield pb_grpc.ClassifierStub(channel)


async def ask(server: ServerProcess, query: str, data: Any = PHOTO) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession(server.http) as session,
        session.post(f"/v1/classify?{query}", data=data) as reply,
    ):
        if reply.content_type == "image/png":
            return reply.status, np.asarray(Image.open(io.BytesIO(await reply.read())))
        return reply.status, await reply.json()


async def test_improbable_classes_are_left_out(server: ServerProcess, stub: Any) -> None:
    _, every = await ask(server, "top_k=200")
    limit = every["predictions"][3]["probability"]
    _, told = await ask(server, f"top_k=200&min_probability={limit - 1e-6}")
    assert told["predictions"] == every["predictions"][:4]
    reply = await stub.Classify(pb.ClassifyRequest(image=PHOTO, min_probability=1.0))
    assert not reply.predictions
    assert reply.image.width == 320


async def test_of_a_subset_the_probabilities_add_up(server: ServerProcess, stub: Any) -> None:
    _, every = await ask(server, "top_k=200")
    few = every["predictions"][2:9:3]
    names = [few[0]["synset"], few[1]["label"].upper(), few[2]["label"]]
    _, told = await ask(server, f"labels={names[0]}, {names[1]}&labels={names[2]}")
    assert [p["index"] for p in told["predictions"]] == [p["index"] for p in few]
    total = sum(p["probability"] for p in few)
    for ours, alone in zip(told["predictions"], few, strict=True):
        assert ours["probability"] == pytest.approx(alone["probability"] / total, rel=0.01)
    reply = await stub.Classify(pb.ClassifyRequest(image=PHOTO, labels=names, top_k=1))
    assert [p.index for p in reply.predictions] == [few[0]["index"]]


async def test_kinds_are_told_when_asked_for(server: ServerProcess, stub: Any) -> None:
    _, told = await ask(server, "kinds=true")
    assert "kinds" not in (await ask(server, ""))[1]
    reply = await stub.Classify(pb.ClassifyRequest(image=PHOTO, kinds=True))
    assert [(k.synset, k.label) for k in reply.kinds] == [
        (k["synset"], k["label"]) for k in told["kinds"]
    ]


async def test_ten_views_are_averaged(server: ServerProcess, stub: Any) -> None:
    bundle = Bundle.open(STARTER)
    manifest = bundle.manifest
    square = preprocess(PHOTO, of_the_square(manifest.preprocess)).crop
    views = cut_ten_views(square[None], manifest.preprocess.crop)[0]
    (artifact,) = (a for a in manifest.artifacts if a.precision == "int8")
    onnx, names = bundle.files[artifact.file], ("onnxruntime-cpu",)
    engine = open_on_cpu(names, onnx, bundle, "int8", artifact.tolerance, 1, 10)
    expected = softmax(engine.run(views)).mean(0)
    best = expected.argsort()[::-1][:5]
    _, told = await ask(server, "views=10")
    assert [p["index"] for p in told["predictions"]] == best.tolist()
    for place, index in enumerate(best):
        assert told["predictions"][place]["probability"] == pytest.approx(expected[index], abs=2e-3)
    reply = await stub.Classify(pb.ClassifyRequest(image=PHOTO, views=10))
    assert [p.index for p in reply.predictions] == best.tolist()
    assert 1 < reply.timing.batch_size <= 10


async def test_an_explanation_is_of_the_best_class(server: ServerProcess, stub: Any) -> None:
    _, told = await ask(server, "explain=occlusion")
    why, best = told["explanation"], told["predictions"][0]
    assert (why["method"], why["index"]) == ("occlusion", best["index"])
    grid = np.array(why["grid"])
    assert grid.shape == (7, 7)
    assert grid.min() >= 0
    assert grid.max() in (0, 1)
    assert 0 <= why["largest_drop"] <= best["probability"] + 1e-3
    reply = await stub.Classify(pb.ClassifyRequest(image=PHOTO, explain="occlusion"))
    np.testing.assert_allclose(reply.explanation.grid, grid.flat, atol=1e-3)
    assert (reply.explanation.rows, reply.explanation.synset) == (7, best["synset"])


async def test_class_activation_takes_no_other_run(server: ServerProcess, stub: Any) -> None:
    runs = await statistics(server)
    _, told = await ask(server, "explain=cam")
    assert await statistics(server) == runs + 1
    why, best = told["explanation"], told["predictions"][0]
    assert (why["method"], why["index"]) == ("cam", best["index"])
    assert "largest_drop" not in why
    grid = np.array(why["grid"])
    assert grid.shape == (7, 7), "the places of conv5 at 128 px"
    assert (grid.min(), grid.max()) == (0, 1)
    reply = await stub.Classify(pb.ClassifyRequest(image=PHOTO, explain="cam"))
    np.testing.assert_allclose(reply.explanation.grid, grid.flat, atol=1e-3)
    _, other = await ask(server, f"explain=cam&labels={told['predictions'][1]['synset']}")
    assert other["explanation"]["index"] == told["predictions"][1]["index"]
    assert other["explanation"]["grid"] != why["grid"]
    _, ten = await ask(server, f"explain=cam&views=10&labels={best['synset']}")
    assert ten["explanation"]["index"] == best["index"]
    assert np.corrcoef(np.ravel(ten["explanation"]["grid"]), grid.ravel())[0, 1] > 0.8


async def statistics(server: ServerProcess) -> int:
    """Photos that the network has seen."""
    async with (
        aiohttp.ClientSession(server.http) as session,
        session.get("/v2/models/alexnet/stats") as reply,
    ):
        return int((await reply.json())["model_stats"][0]["inference_count"])


async def test_what_the_engine_cannot_show_is_told() -> None:
    async with (
        faking() as fake,
        aiohttp.ClientSession(fake.url) as session,
        session.post("/v1/classify?explain=cam", data=flat(75)) as reply,
    ):
        assert reply.status == 400
        told = (await reply.json())["error"]["message"]
        assert told == "explain=cam is not to be had from tiny on fake: ask for explain=occlusion"


async def test_the_heatmap_is_a_picture_of_it(server: ServerProcess) -> None:
    _, crop = await ask(server, "return=crop")
    _, told = await ask(server, "explain=occlusion")
    status, shown = await ask(server, "return=heatmap")
    assert (status, shown.shape) == (200, crop.shape)
    row, column = np.unravel_index(np.argmax(told["explanation"]["grid"]), (7, 7))
    cell = len(crop) // 7
    there = np.s_[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
    same = abs(shown[there].astype(int) - crop[there]).mean()
    assert same < abs(shown.astype(int) - crop).mean()


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("min_probability=2", "min_probability must lie between 0 and 1, not 2"),
        ("min_probability=nan", "min_probability must lie between 0 and 1, not nan"),
        ("min_probability=half", "min_probability must be a number from 0 to 1, not 'half'"),
        ("views=3", "views must be 1 or 10, not 3"),
        ("explain=why", "explain must be occlusion or cam, or left out; not 'why'"),
        ("kinds=maybe", "kinds must be true or false, not 'maybe'"),
        ("labels=n02124075,unicorn", "labels: the model has no class 'unicorn'"),
        ("labels=n02124075&top_k=2", "top_k must lie between 1 and 1, not 2"),
        ("return=song", "return must be crop or heatmap, not 'song'"),
    ],
)
async def test_what_cannot_be_had_is_told(server: ServerProcess, query: str, why: str) -> None:
    status, told = await ask(server, query)
    assert (status, told["error"]["message"]) == (400, why)


async def test_a_form_of_several_photos_is_looked_at_once(server: ServerProcess) -> None:
    form = aiohttp.FormData()
    for name in "ab":
        form.add_field("file", PHOTO, filename=name)
    status, told = await ask(server, "views=10", form)
    assert status == 400
    assert "for one photo, and the form has 2" in told["error"]["message"]
