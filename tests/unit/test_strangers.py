import pytest

from alexnet.formats import FORMATS
from alexnet.preprocess import InvalidImage, UnsupportedFormat, preprocess
from alexnet.spec import Preprocess


def refusal(data: bytes) -> InvalidImage:
    with pytest.raises(InvalidImage) as caught:
        preprocess(data, Preprocess())
    return caught.value


STRANGERS = {
    "a PDF": b"%PDF-1.7\n",
    "a video": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
    "a ZIP": b"PK\3\4" + bytes(30),
    "text (SVG, HTML or XML)": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a data URL, to be decoded first": b"data:image/png;base64,iVBORw0KGgo",
    "base64, to be decoded first": b"/9j/4AAQSkZJRgABAQ",
}


@pytest.mark.parametrize(("name", "data"), STRANGERS.items(), ids=STRANGERS)
def test_what_is_no_accepted_format_is_named_where_it_is_known(name: str, data: bytes) -> None:
    error = refusal(data)
    assert type(error) is UnsupportedFormat
    assert str(error) == f"the bytes are {name}, not an image in a known format ({_known()})"


@pytest.mark.parametrize("data", [b"RIFF\x24\0\0\0WAVEfmt ", b"RIFF\x24\0\0\0AVI LIST", b"hello"])
def test_what_is_not_known_is_no_image(data: bytes) -> None:
    error = refusal(data)
    assert type(error) is UnsupportedFormat
    assert str(error) == f"the bytes are not an image in a known format ({_known()})"


def _known() -> str:
    return ", ".join(FORMATS)
