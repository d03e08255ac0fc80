"""What is cut out of a form, and what a form may not be."""

import time
import warnings

import pytest

from server.api.forms import MAX_FILES, File, photos
from server.errors import BadRequest

TYPE = "multipart/form-data; boundary=x"


def part(content: bytes = b"photo", name: bytes = b"file", more: bytes = b"") -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    return head % (name, more, content)


def test_the_bytes_of_a_photo_come_out_as_they_went_in() -> None:
    for content in (b"", b"\r\n", b"x--x", b"\r\n--", b"\r\n\r\n--y\r\n", bytes(range(256)) * 9):
        assert photos(part(content) + part(b"b") + b"--x--", TYPE) == [
            File("", content),
            File("", b"b"),
        ]


def test_what_stands_before_the_first_boundary_and_after_the_last_is_skipped() -> None:
    form = b"a preamble\r\n" + part() + b"--x--\r\n" + part(b"later")
    assert photos(form, TYPE) == [File("", b"photo")]
    # Space may follow a boundary, and quotes may stand around it.
    assert photos(part().replace(b"--x\r", b"--x \t\r") + b"--x--", 'a/b; boundary="x"')


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"cat.jpg", "cat.jpg"),
        ("Ångström.png".encode(), "Ångström.png"),
        ("Ångström.png".encode("latin-1"), "Ångström.png"),
        (rb"C:\photos\2026\cat.jpg", "cat.jpg"),
        (rb"C:\\photos\\cat.jpg", "cat.jpg"),
        (b"/home/a/cat.jpg", "cat.jpg"),
        (rb"a \"big\" cat.jpg", 'a "big" cat.jpg'),
        (b"semi;colon.jpg", "semi;colon.jpg"),
    ],
)
def test_a_file_is_named_as_its_owner_sees_it(sent: bytes, name: str) -> None:
    form = part(more=b'; filename="%s"' % sent) + b"--x--"
    assert photos(form, TYPE) == [File(name, b"photo")]


@pytest.mark.parametrize("value", [b"utf-8''%ff", b"utf-8''%ed%b3%a9", b"none''a", b"utf-16''%d8"])
def test_a_name_in_an_odd_encoding_is_text_and_no_line_in_the_log(value: bytes) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (file,) = photos(part(more=b"; filename*=" + value) + b"--x--", TYPE)
    assert file.name.encode("utf-8")  # raises for half a character
    assert not caught


def test_the_field_that_browsers_add_is_ignored() -> None:
    form = part(b"utf-8", name=b"_charset_") + part() + b"--x--"
    assert photos(form, TYPE) == [File("", b"photo")]


@pytest.mark.parametrize(
    ("form", "why"),
    [
        (b"", "nowhere in it"),
        (b"--y\r\n\r\n", "nowhere in it"),
        (part(), "its last boundary is missing"),
        (part()[:-1] + b"--x--", "its last boundary is missing"),
        (b"--x--", "no field named 'file'"),
        (b"--xyz\r\n\r\n\r\n--x--", "something follows the boundary"),
        (b"--x", "something follows the boundary before part 0"),
        (b"--x\r\nContent-Disposition: form-data", "does not end in 2,048 bytes"),
        (part(more=b";" * 3000) + b"--x--", "does not end in 2,048 bytes"),
        (part(name=b"text") + b"--x--", "fields named 'file' and no others"),
        (b"--x\r\n\r\nphoto\r\n--x--", "fields named 'file' and no others"),
        (part() * (MAX_FILES + 1) + b"--x--", "at most 64 files"),
        (part(name=b"_charset_") * 1000 + b"--x--", "at most 64 files"),
    ],
)
def test_a_form_that_is_none_is_told_why(form: bytes, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        photos(form, TYPE)


@pytest.mark.parametrize("boundary", ["", "x" * 71])
def test_a_boundary_has_1_to_70_letters(boundary: str) -> None:
    with pytest.raises(BadRequest, match="a boundary of 1 to 70 letters"):
        photos(part(), f"multipart/form-data; boundary={boundary}")


@pytest.mark.parametrize(
    "form",
    [
        b"\n" * 20_000_000,
        b"\r\n" * 10_000_000,
        b"\r\n--" * 5_000_000,
        b"\r\n--xx" * 3_000_000,
        b"--x\r\n" * 4_000_000,
        (b"--x\r\nA" + b';"' * 1000 + b"\r\n\r\n\r\n") * 64,
        (b"--x\r\nContent-Disposition: a" + b';"\\' * 650 + b"\r\n\r\n\r\n") * 64,
    ],
)
def test_no_form_takes_long(form: bytes) -> None:
    """The event loop waits meanwhile; it took 37 s for each 20 MB."""
    start = time.process_time()
    with pytest.raises(BadRequest):
        photos(form, TYPE)
    assert time.process_time() - start < 0.3
