"""`alexnet-evaluate` with subjects that cannot be scored."""

from pathlib import Path

import pytest

from tests.fakes import faking, tiny_bundle
from tests.model.evaluation import Evaluate, greys, in_thread


async def test_requests_to_a_full_server_are_retried(
    tmp_path: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.subjects.PAUSES_S", (0.01,) * 200)
    photos = greys(tmp_path, s2=[60] * 12)
    async with faking(max_queue_size=1) as fake:
        text = await in_thread(evaluate, fake.url, "--photos", photos)
        refused = fake.count("alexnet_requests_total", face="rest", outcome="overloaded")
    assert text.splitlines()[1].split()[1:4] == ["12", "0", "100.0%"]
    assert refused > 0


async def test_a_failing_server_ends_the_command_with_its_message(
    tmp_path: Path, evaluate: Evaluate
) -> None:
    photos = greys(tmp_path, s2=[60])
    async with faking() as fake:
        wrong = await in_thread(evaluate, f"{fake.url}/elsewhere", "--photos", photos)
        fake.engine.fail = True
        failing = await in_thread(evaluate, fake.url, "--photos", photos)
    gone = await in_thread(evaluate, fake.url, "--photos", photos)
    start = f"alexnet-evaluate: no answer from {fake.url}"
    assert wrong.startswith(f"{start}/elsewhere: there is nothing at /elsewhere/v1/models")
    assert failing.startswith(f"{start}: ")
    assert "secret" not in failing
    assert gone.startswith(f"{start}: ")
    assert "refused" in gone


@pytest.mark.parametrize(
    ("subject", "complaint"),
    [
        ("http://127.0.0.1:1 --views 10", "score 10 views of the bundle or the checkpoint"),
        ("http://127.0.0.1:1", "no answer from http://127.0.0.1:1: .*refused"),
        ("tiny:fp32", "tiny has no fp32 artifact for ONNX Runtime; it has int8"),
        ("absent.tar.xz", "there is no model bundle at absent.tar.xz"),
        ("absent.safetensors", "there are no weights at absent.safetensors"),
        ("s1:int8", "s1 is no bundle, so there is no int8 to choose"),
        ("tiny --classes text", "none of the photos is of a class in text"),
        ("tiny --classes nowhere", "nowhere"),
    ],
)
def test_an_invalid_subject_is_reported_in_one_sentence(
    subject: str,
    complaint: str,
    tmp_path: Path,
    evaluate: Evaluate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(greys(tmp_path / "here", s1=[30]))
    tiny_bundle().write(Path("tiny"))
    Path("text").write_text("s9")
    with pytest.raises(SystemExit, match=f"^alexnet-evaluate: .*{complaint}") as end:
        evaluate(*subject.split(), "--photos", ".")
    assert "\n" not in str(end.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "\nstopped before the scores were complete"),
        (MemoryError(), "alexnet-evaluate: there is not enough memory"),
        (RuntimeError("CUDA out of memory."), "alexnet-evaluate: there is not enough memory"),
        (RuntimeError("the engine failed\nat ..."), "alexnet-evaluate: the engine failed"),
    ],
)
def test_what_ends_it_before_its_time_is_one_sentence(
    error: BaseException, said: str, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("export.evaluation.evaluate", fail)
    with pytest.raises(SystemExit) as end:
        evaluate("tiny", "--photos", ".")
    assert end.value.code == said


@pytest.mark.parametrize(
    "arguments",
    [[], ["x"], ["x", "--photos", ".", "--views", "5"], ["x", "--photos", ".", "--worst", "-1"]],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], evaluate: Evaluate) -> None:
    with pytest.raises(SystemExit) as end:
        evaluate(*arguments)
    assert end.value.code == 2
