import io
import lzma
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alexnet.bundle import MANIFEST, Bundle, BundleError, sha256
from alexnet.golden import Golden
from alexnet.labels import Label, Labels
from alexnet.manifest import FORMAT, Artifact, File, Manifest, ModelName, Provenance, Tensor
from alexnet.spec import Preprocess

LABELS = Labels((Label("apple", "apple, fruit"), Label("pear", "pear")))
GOLDEN = Golden(np.zeros((1, 8, 8, 3), np.uint8), np.array([[1, 2]], np.float32))
FILES = {
    "model.onnx": bytes(range(256)) * 20,
    "labels.tsv": LABELS.to_tsv().encode(),
    "golden.npz": GOLDEN.to_bytes(),
    "README.md": b"# A model card\n",
}
FORMS = ("bundle", "bundle.tar.xz")


def bundle(files: dict[str, bytes] = FILES, classes: int = 2) -> Bundle:
    """A bundle of these files, with the right hashes."""
    hashes = {name: sha256(data) for name, data in files.items()}
    model = Artifact("model.onnx", hashes["model.onnx"], "onnxruntime", "fp32", {}, 0.01, 1.0, None)
    manifest = Manifest(
        format=FORMAT,
        model=ModelName("alexnet", "1", classes, classes, "Knows apples and pears."),
        preprocess=Preprocess(8, 8),
        input=Tensor("images", "uint8", ("batch", 8, 8, 3)),
        output=Tensor("logits", "float32", ("batch", classes)),
        artifacts=(model,),
        labels=File("labels.tsv", hashes["labels.tsv"]),
        golden=File("golden.npz", hashes["golden.npz"]),
        card=File("README.md", hashes["README.md"]),
        provenance=Provenance("smoke", "ab12cd3", "0" * 64, 2, 0.1, "2025-06-01"),
    )
    return Bundle(manifest, files, "here")


def put(path: Path, files: dict[str, bytes]) -> Path:
    """Writes these files as they are, as a directory or packed."""
    if path.suffix != ".xz":
        path.mkdir()
        for name, data in files.items():
            (path / name).write_bytes(data)
        return path
    with tarfile.open(path, "w:xz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def whole() -> dict[str, bytes]:
    return {MANIFEST: bundle().manifest.to_json().encode(), **FILES}


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    return str(caught.value)


def test_sha256_matches_the_standard() -> None:
    assert sha256(b"abc").startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize("form", FORMS)
def test_round_trip(tmp_path: Path, form: str) -> None:
    path = tmp_path / "deep" / form
    bundle().write(path)
    again = Bundle.open(path)
    assert again.manifest == bundle().manifest
    assert dict(again.files) == FILES
    assert again.origin == str(path)
    assert again.labels == LABELS
    np.testing.assert_array_equal(again.golden.logits, GOLDEN.logits)


def test_a_directory_holds_only_the_manifest_and_the_files(tmp_path: Path) -> None:
    bundle().write(tmp_path / "bundle")
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert {p.name: p.read_bytes() for p in (tmp_path / "bundle").iterdir()} == whole()


def test_the_same_bundle_packs_to_the_same_bytes(tmp_path: Path) -> None:
    reordered = dict(reversed(FILES.items()))
    bundle().write(tmp_path / "a.tar.xz")
    bundle(reordered).write(tmp_path / "b.tar.xz")
    assert (tmp_path / "a.tar.xz").read_bytes() == (tmp_path / "b.tar.xz").read_bytes()


def test_packing_replaces_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.xz"
    path.write_bytes(b"old")
    bundle().write(path)
    assert Bundle.open(path).manifest == bundle().manifest
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_never_changed_in_place(tmp_path: Path) -> None:
    put(tmp_path / "bundle", {"mine": b"keep"})
    with pytest.raises(BundleError, match="never changed in place"):
        bundle().write(tmp_path / "bundle")
    assert [p.name for p in (tmp_path / "bundle").iterdir()] == ["mine"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FILES)
def test_the_error_names_a_damaged_file(tmp_path: Path, form: str, name: str) -> None:
    damaged = bytearray(FILES[name])
    damaged[len(damaged) // 2] ^= 1
    path = put(tmp_path / form, {**whole(), name: bytes(damaged)})
    assert refusal(path).startswith(f"{path}: {name} is damaged")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FILES)
def test_the_error_names_a_missing_file(tmp_path: Path, form: str, name: str) -> None:
    files = {n: data for n, data in whole().items() if n != name}
    path = put(tmp_path / form, files)
    assert refusal(path) == f"{path}: {name} is missing"


@pytest.mark.parametrize("form", FORMS)
def test_the_error_names_a_missing_manifest(tmp_path: Path, form: str) -> None:
    assert MANIFEST in refusal(put(tmp_path / form, FILES))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", [b"{", b'{"format": 99}', b"\xff\xfe{}"])
def test_a_bad_manifest_is_refused_with_the_bundles_path(
    tmp_path: Path, form: str, text: bytes
) -> None:
    path = put(tmp_path / form, {**whole(), MANIFEST: text})
    assert str(path) in refusal(path)


@pytest.mark.parametrize("form", FORMS)
def test_the_error_says_where_no_bundle_is(tmp_path: Path, form: str) -> None:
    assert refusal(tmp_path / form) == f"there is no model bundle at {tmp_path / form}"


def test_an_archive_cut_anywhere_in_its_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.xz"
    bundle().write(path)
    data = path.read_bytes()
    # The last 64 bytes pack the zeros after the last file, and the index of the compressed blocks.
    for end in range(0, len(data) - 70, 23):
        path.write_bytes(data[:end])
        assert str(path) in refusal(path)


def test_an_archive_with_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.xz"
    bundle().write(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert str(path) in refusal(path)


@pytest.mark.parametrize("data", [b"", b"text", lzma.compress(b"no tar in here" * 99)])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.tar.xz"
    path.write_bytes(data)
    assert str(path) in refusal(path)


@pytest.mark.parametrize("name", ["../evil", "/evil", "folder/evil", "..", "back\\slash"])
def test_a_member_with_a_path_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / "a.tar.xz", {**whole(), name: b"evil"})
    assert "is no name for a file in a bundle" in refusal(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_a_member_that_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        entry = tarfile.TarInfo("model.onnx")
        entry.type, entry.linkname = kind, "elsewhere"
        archive.addfile(entry)
    assert refusal(path) == f"{path}: 'model.onnx' is no plain file"


def test_an_archive_that_unpacks_to_too_many_bytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alexnet.archive.MAX_UNPACKED_BYTES", 10_000)
    path = put(tmp_path / "a.tar.xz", {"zeros": bytes(10_001)})
    assert "unpacks to more than 10,000 bytes" in refusal(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_manifest_cannot_name_a_file_outside(tmp_path: Path, form: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    outside = bundle().manifest.to_json().replace("labels.tsv", "../secret").encode()
    path = put(tmp_path / form, {**whole(), MANIFEST: outside})
    assert "'../secret' is no name for a file in a bundle" in refusal(path)


@pytest.mark.parametrize("name", ["a/b", "../up", ""])
def test_a_file_name_with_a_path_cannot_be_packed(tmp_path: Path, name: str) -> None:
    odd = replace(bundle(), files={**FILES, name: b""})
    with pytest.raises(BundleError, match="is no name for a file"):
        odd.write(tmp_path / "a.tar.xz")
    assert list(tmp_path.iterdir()) == []


def test_there_must_be_as_many_labels_as_classes() -> None:
    with pytest.raises(BundleError, match="here: 2 labels for 3 classes"):
        bundle(classes=3)


@pytest.mark.parametrize("text", [b"no header", b"\xff\xfe", b"index\tsynset\tnames\n"])
def test_a_class_list_that_cannot_be_read_is_refused(text: bytes) -> None:
    with pytest.raises(BundleError, match="here: "):
        bundle({**FILES, "labels.tsv": text})


def crops_alone() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, crops=GOLDEN.crops)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [b"", b"no arrays", b"PK\x03\x04 cut", crops_alone()])
def test_a_golden_batch_that_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="here: "):
        _ = bundle({**FILES, "golden.npz": data}).golden
