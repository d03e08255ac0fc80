"""The fake server that is shipped for the tests of client code."""

from threading import Thread

import pytest

from alexnet_client.client import Client
from alexnet_client.errors import ClassifyError
from alexnet_client.fake import FakeServer, classification

NO_PHOTO = ClassifyError("INVALID_ARGUMENT", "no photo", "invalid_image")


def test_the_default_answer_is_a_cat() -> None:
    with FakeServer() as fake, Client(fake.address) as client:
        assert client.classify(b"anything").top1.label == "tabby cat"
        assert client.ready()


def test_answers_by_bytes_and_by_a_function() -> None:
    with FakeServer(lambda image: classification(image.decode())) as fake:
        fake.answers[b"dog"] = classification("beagle", "boxer")
        fake.answers[b"text"] = NO_PHOTO
        with Client(fake.address) as client:
            assert client.classify(b"lynx").top1.label == "lynx"
            assert [p.label for p in client.classify(b"dog").predictions] == ["beagle", "boxer"]
            assert [p.label for p in client.classify(b"dog", top_k=1).predictions] == ["beagle"]
            with pytest.raises(ClassifyError) as caught:
                client.classify(b"text")
    assert vars(caught.value) == vars(NO_PHOTO)


def test_an_exception_of_the_function_is_reported() -> None:
    with FakeServer(lambda image: classification(image.decode())) as fake:
        with Client(fake.address) as client:
            with pytest.raises(ClassifyError, match="UNKNOWN: the fake's function raised Unicode"):
                client.classify(b"\xff")
            ((_, error),) = client.classify_stream([b"\xff"])
        assert isinstance(error, ClassifyError)
        assert error.code == "UNKNOWN"


def test_failures_come_first_and_in_turn() -> None:
    full = ClassifyError("RESOURCE_EXHAUSTED", "full", "overloaded", retry_after_s=25)
    with FakeServer() as fake, Client(fake.address) as client:
        fake.failures = [full, NO_PHOTO]
        for expected in (full, NO_PHOTO):
            with pytest.raises(ClassifyError) as caught:
                client.classify(b"", timeout_s=20)
            assert vars(caught.value) == vars(expected)
        assert client.classify(b"").attempts == 1


def test_the_gate_holds_photos_until_a_test_opens_it() -> None:
    with FakeServer() as fake, Client(fake.address) as client:
        fake.gate.clear()
        asking = Thread(target=client.classify, args=(b"photo",))
        asking.start()
        assert fake.waiting.wait(10)
        assert asking.is_alive()
        fake.gate.set()
        asking.join(10)
        assert not asking.is_alive()
    assert [request.image for request in fake.requests] == [b"photo"]


def test_leaving_the_block_ends_calls_as_a_stopping_server_does() -> None:
    with FakeServer() as fake, Client(fake.address) as client:
        fake.gate.clear()
        caught: list[ClassifyError] = []

        def ask() -> None:
            with pytest.raises(ClassifyError) as error:
                client.classify(b"photo", timeout_s=2)
            caught.append(error.value)

        asking = Thread(target=ask)
        asking.start()
        assert fake.waiting.wait(10)
        fake.__exit__()
        asking.join(10)
    assert caught[0].unreachable
    assert caught[0].attempts > 1
