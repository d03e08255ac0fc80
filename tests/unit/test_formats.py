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
from alexnet_client import classify
from alexnet_client import photos as of_clients
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
        magics = form.magic if isinstance(form.magic, tuple) else (form.magic,)
        others = [other for other in FORMATS.values() if other is not form]
        same = [o for o in others if o.magic_at == form.magic_at and magics[0].startswith(o.magic)]
        assert all(other.owns and form.owns for other in same)


def test_the_clients_look_for_the_same_suffixes() -> None:
    assert set(of_clients.SUFFIXES) == set(SUFFIXES)
    assert " ".join(of_clients.SUFFIXES) in classify.EXAMPLES


def _jpeg_2000(data: bytes) -> Size:
    """ISO/IEC 15444-1, annex I.5.3.1."""
    height, width = unpack_from(">II", data, data.index(b"ihdr") + 4)
    return width, height


@pytest.mark.skipif(not features.check("jpg_2000"), reason="Pillow was built without JPEG 2000")
def test_a_further_format_is_a_further_row(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(draw(), "JPEG2000")
    with pytest.raises(UnsupportedFormat):
        preprocess(data, Preprocess())
    row = Format("JPEG2000", b"jP  ", _jpeg_2000, (".jp2",), 12, {"JPEG2000": {}}, magic_at=4)
    monkeypatch.setitem(FORMATS, "JPEG2000", row)
    header = Header("JPEG2000", 320, 240)
    assert read_header(data) == header
    assert decoded_bytes(header, Preprocess()) >= 12 * 320 * 240
    found = preprocess(data, Preprocess())
    assert (found.format, found.width, found.height) == ("JPEG2000", 320, 240)
    drawn = preprocess(encode(draw(), "PNG"), Preprocess()).crop
    assert np.abs(found.crop.astype(int) - drawn).mean() < 8
