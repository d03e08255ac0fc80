import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from alexnet.manifest import (
    FORMAT,
    Accuracy,
    Artifact,
    BundleError,
    File,
    Manifest,
    ModelName,
    Provenance,
    Taught,
    Tensor,
)
from alexnet.spec import Preprocess

SCORED = Artifact(
    file="model.onnx",
    sha256="a" * 64,
    runtime="onnxruntime",
    precision="fp32",
    requires={"onnxruntime": "1.20"},
    tolerance=0.01,
    agreement=0.999,
    accuracy=Accuracy(top1=0.42, top5=0.68, photos=10_000, data="validation"),
)
MANIFEST = Manifest(
    format=FORMAT,
    model=ModelName("alexnet", "1.0.0", 3, 2, "Knows apples and pears."),
    preprocess=Preprocess(),
    input=Tensor("images", "uint8", ("batch", 224, 224, 3)),
    output=Tensor("logits", "float32", ("batch", 3)),
    artifacts=(SCORED, replace(SCORED, file="model.int8.onnx", accuracy=None, requires={})),
    labels=File("labels.tsv", "b" * 64),
    golden=File("golden.npz", "c" * 64),
    card=File("README.md", "e" * 64),
    provenance=Provenance("smoke", "ab12cd3", "d" * 64, 100, 1.5, "2025-06-01"),
    taught=Taught("lite0", 330_000, 1),
)
OBJECTS: dict[str, list[str | int]] = {
    "manifest": [],
    "manifest.model": ["model"],
    "manifest.preprocess": ["preprocess"],
    "manifest.input": ["input"],
    "manifest.output": ["output"],
    "manifest.artifacts[0]": ["artifacts", 0],
    "manifest.artifacts[1]": ["artifacts", 1],
    "manifest.artifacts[0].accuracy": ["artifacts", 0, "accuracy"],
    "manifest.labels": ["labels"],
    "manifest.golden": ["golden"],
    "manifest.card": ["card"],
    "manifest.provenance": ["provenance"],
    "manifest.taught": ["taught"],
}


def as_json() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(MANIFEST.to_json())
    return data


def inside(data: Any, path: list[str | int]) -> Any:
    for step in path:
        data = data[step]
    return data


EVERY_KEY = [
    (where, key)
    for where, path in OBJECTS.items()
    for key in inside(as_json(), path)
    if (where, key) not in {("manifest", "format"), ("manifest", "taught")}
    if (where, key) != ("manifest.preprocess", "tile")
]


def refusal(data: Any) -> str:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(data if isinstance(data, str) else json.dumps(data))
    return str(caught.value)


def test_json_round_trip() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST


def test_a_geometry_that_is_not_the_usual_is_written() -> None:
    rounded = replace(MANIFEST, preprocess=Preprocess(geometry="torchvision"))
    assert json.loads(rounded.to_json())["preprocess"]["geometry"] == "torchvision"
    assert Manifest.from_json(rounded.to_json()) == rounded


def test_a_manifest_from_before_geometries_has_the_exact_centre() -> None:
    data = as_json()
    assert set(data["preprocess"]) == {"resize", "crop", "interpolation", "tile"}
    assert Manifest.from_json(json.dumps(data)).preprocess.geometry == "centre"


def test_a_tile_is_refused_and_the_key_may_be_null_or_missing() -> None:
    data = as_json()
    del data["preprocess"]["tile"]
    assert Manifest.from_json(json.dumps(data)) == MANIFEST
    data["preprocess"]["tile"] = 72
    assert refusal(data) == (
        "manifest.json: manifest.preprocess.tile is 72: networks trained on tiles cannot be served "
        "any more; export the model again from its weights with this version"
    )


def test_the_entries_are_every_file_that_has_a_hash() -> None:
    names = {entry.file for entry in MANIFEST.entries}
    assert names == {"labels.tsv", "golden.npz", "README.md", "model.onnx", "model.int8.onnx"}
    assert MANIFEST.to_json().count('"sha256"') == len(names)


def test_json_has_the_fields_and_ends_with_a_newline() -> None:
    expected = asdict(MANIFEST)
    expected["preprocess"]["tile"] = None
    del expected["preprocess"]["geometry"], expected["calibration"]
    assert as_json() == json.loads(json.dumps(expected))
    assert MANIFEST.to_json().endswith("}\n")


def test_every_object_of_the_manifest_is_tested_here() -> None:
    def count(value: Any) -> int:
        if isinstance(value, list):
            return sum(map(count, value))
        if not isinstance(value, dict):
            return 0
        return 1 + sum(count(v) for key, v in value.items() if key != "requires")

    assert count(as_json()) == len(OBJECTS)


def test_a_bundle_written_before_there_were_teachers_still_loads() -> None:
    data = as_json()
    del data["taught"]
    assert Manifest.from_json(json.dumps(data)) == replace(MANIFEST, taught=None)
    data["taught"] = None
    assert Manifest.from_json(json.dumps(data)) == replace(MANIFEST, taught=None)


def test_a_bundle_without_a_teacher_can_be_read_by_servers_from_before() -> None:
    """To them a new key is unknown, and unknown keys are errors."""
    assert "taught" not in json.loads(replace(MANIFEST, taught=None).to_json())


@pytest.mark.parametrize(("where", "key"), EVERY_KEY)
def test_the_error_names_a_missing_key(where: str, key: str) -> None:
    data = as_json()
    del inside(data, OBJECTS[where])[key]
    assert refusal(data) == f"manifest.json: {where} lacks {key}"


@pytest.mark.parametrize("where", OBJECTS)
def test_the_error_names_an_unknown_key(where: str) -> None:
    data = as_json()
    inside(data, OBJECTS[where])["tolerence"] = 1
    assert refusal(data) == f"manifest.json: {where} has unknown keys: tolerence"


@pytest.mark.parametrize("where", [w for w in OBJECTS if w != "manifest"])
@pytest.mark.parametrize("value", ["text", 7, [], True])
def test_the_error_names_a_value_in_place_of_an_object(where: str, value: Any) -> None:
    data = as_json()
    *path, last = OBJECTS[where]
    inside(data, path)[last] = value
    assert refusal(data) == f"manifest.json: {where} cannot be {value!r}"


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("manifest.model", "classes", "1000"),
        ("manifest.model", "classes", 3.0),
        ("manifest.model", "classes", True),
        ("manifest.model", "known_classes", None),
        ("manifest.model", "name", 7),
        ("manifest.preprocess", "interpolation", "nearest"),
        ("manifest.preprocess", "geometry", "caffe"),
        ("manifest.preprocess", "geometry", None),
        ("manifest.preprocess", "crop", [224]),
        ("manifest.input", "shape", "batch"),
        ("manifest.input", "dtype", None),
        ("manifest.artifacts[0]", "requires", ["cuda"]),
        ("manifest.artifacts[0]", "tolerance", "0.1"),
        ("manifest.artifacts[0]", "tolerance", False),
        ("manifest.artifacts[0].accuracy", "photos", 0.5),
        ("manifest.labels", "file", None),
        ("manifest.provenance", "train_minutes", "an hour"),
        ("manifest", "artifacts", {}),
        ("manifest", "model", None),
    ],
)
def test_the_error_names_a_value_of_the_wrong_type(where: str, key: str, value: Any) -> None:
    data = as_json()
    inside(data, OBJECTS[where])[key] = value
    assert refusal(data) == f"manifest.json: {where}.{key} cannot be {value!r}"


def test_the_error_names_a_wrong_value_deep_in_a_list_or_table() -> None:
    data = as_json()
    data["input"]["shape"][1] = None
    assert "manifest.input.shape[1] cannot be None" in refusal(data)
    data = as_json()
    data["artifacts"][0]["requires"]["cuda"] = 12
    assert "manifest.artifacts[0].requires.cuda cannot be 12" in refusal(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tolerance_that_is_no_finite_number_is_refused(value: float) -> None:
    data = as_json()
    data["artifacts"][0]["tolerance"] = value
    assert "tolerance" in refusal(data) or "JSON" in refusal(data)


def test_a_whole_number_is_taken_for_a_float() -> None:
    data = as_json()
    data["artifacts"][0]["tolerance"] = 0
    tolerance = Manifest.from_json(json.dumps(data)).artifacts[0].tolerance
    assert (tolerance, type(tolerance)) == (0.0, float)


def test_a_view_that_does_not_fit_is_refused_with_its_reason() -> None:
    data = as_json()
    data["preprocess"]["crop"] = 300
    assert refusal(data) == (
        "manifest.json: manifest.preprocess: crop 300 must lie between 1 and resize 256, "
        "which is at most 8,192 px"
    )


@pytest.mark.parametrize("key", ["name", "version"])
@pytest.mark.parametrize("value", ["", "../up", "a b", "-x", "x" * 65, "a\n", "é"])
def test_a_name_unfit_for_urls_and_files_is_refused(key: str, value: str) -> None:
    data = as_json()
    data["model"][key] = value
    assert refusal(data) == f"{value!r} is no model name or version"


def test_a_bundle_without_artifacts_is_refused() -> None:
    assert refusal({**as_json(), "artifacts": []}) == "the bundle has no artifacts"


@pytest.mark.parametrize("number", [FORMAT + 1, FORMAT - 1])
def test_another_format_is_refused_even_when_nothing_else_is_known(number: int) -> None:
    message = refusal({"format": number, "something": "new"})
    assert f"has format {number}, this server reads format {FORMAT}" in message


@pytest.mark.parametrize("data", ["[]", "3", "{}", '{"format": "1"}', '{"format": null}'])
def test_json_that_is_no_manifest_has_no_format(data: str) -> None:
    assert refusal(data) == "manifest.json has no format number"


@pytest.mark.parametrize("data", ["", "{", "{'format': 1}", "not json"])
def test_text_that_is_not_json_is_refused(data: str) -> None:
    assert refusal(data).startswith("manifest.json is not JSON: ")


def test_true_is_no_format_number() -> None:
    assert "manifest.format" in refusal({**as_json(), "format": True})
