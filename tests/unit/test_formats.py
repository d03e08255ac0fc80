"""The table of formats: true of what Pillow knows, and all that a new format needs."""

from struct import unpack_from

import numpy as np
import pytest
from PIL import Image, features

from alexnet.formats import FORMATS, SUFFIXES, Format, Size, format_of
from alexnet.header import Header, read_header
from alexnet.preprocess import UnsupportedFormat, decoded_bytes, preprocess
from alexnet.samples import KINDS, photo
from alexnet.spec import Preprocess
from clients import classify
from clients import photos as of_clients
from tests.photos import draw, encode


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_names_and_suffixes_are_pillows(form: Format) -> None:
    known = Image.registered_extensions()
    assert [known[suffix] for suffix in form.suffixes] == [form.name] * len(form.suffixes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_has_the_magic_of_its_format(kind: str) -> None:
    form = format_of(photo(kind, 0.001))
    assert form is KINDS[kind]
    assert kind in form.samples


def test_no_suffix_and_no_magic_is_that_of_two_formats() -> None:
    assert len(set(SUFFIXES)) == len(SUFFIXES)
    for form in FORMATS.values():
        others = [other.magic for other in FORMATS.values() if other is not form]
        assert not any(form.magic.startswith(magic) for magic in others)


def test_the_clients_look_for_the_same_suffixes() -> None:
    assert set(of_clients.SUFFIXES) == set(SUFFIXES)
    assert " ".join(of_clients.SUFFIXES) in classify.EXAMPLES


def _avif(data: bytes) -> Size:
    """ISO/IEC 23008-12, section 6.5.3."""
    width, height = unpack_from(">II", data, data.index(b"ispe") + 8)
    return width, height


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
def test_a_further_format_is_a_further_row(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(draw(), "AVIF")
    with pytest.raises(UnsupportedFormat):
        preprocess(data, Preprocess())
    row = Format("AVIF", b"ftypavi", _avif, (".avif",), 12, {"AVIF": {}}, magic_at=4)
    monkeypatch.setitem(FORMATS, "AVIF", row)
    header = Header("AVIF", 320, 240)
    assert read_header(data) == header
    assert decoded_bytes(header, Preprocess()) == 12 * 320 * 240
    found = preprocess(data, Preprocess())
    assert (found.format, found.width, found.height) == ("AVIF", 320, 240)
    drawn = preprocess(encode(draw(), "PNG"), Preprocess()).crop
    assert np.abs(found.crop.astype(int) - drawn).mean() < 8
