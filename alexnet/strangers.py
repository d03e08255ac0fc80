"""What bytes are that are no photo in an accepted format: people send PDFs, videos and base64."""

# Magic, where it is, and what has it.
_MAGIC = (
    (b"%PDF", 0, "a PDF"),
    (b"II*\0", 0, "a TIFF"),
    (b"MM\0*", 0, "a TIFF"),
    (b"ftyphei", 4, "a HEIC"),
    (b"ftypmif1", 4, "a HEIF"),
    (b"ftypavif", 4, "an AVIF"),
    (b"ftyp", 4, "a video"),
    (b"\x1aE\xdf\xa3", 0, "a video"),
    (b"\xff\x0a", 0, "a JPEG XL"),
    (b"JXL ", 4, "a JPEG XL"),
    (b"jP  ", 4, "a JPEG 2000"),
    (b"8BPS", 0, "a file of Photoshop"),
    (b"\0\0\1\0", 0, "an icon (ICO)"),
    (b"PK\3\4", 0, "a ZIP"),
    (b"\x1f\x8b", 0, "compressed by gzip"),
    (b"<", 0, "text (SVG, HTML or XML)"),
    (b"data:", 0, "a data URL, to be decoded first"),
    (b"/9j/", 0, "base64, to be decoded first"),
    (b"iVBORw0KGgo", 0, "base64, to be decoded first"),
    (b"R0lGOD", 0, "base64, to be decoded first"),
    (b"UklGR", 0, "base64, to be decoded first"),
    (b"SUkqA", 0, "base64, to be decoded first"),
    (b"TU0AK", 0, "base64, to be decoded first"),
    (b"Z0eX", 6, "base64, to be decoded first"),  # ftyp, of HEIC and AVIF
)


def name_of(data: bytes) -> str:
    """Such as `a PDF`; empty where it is not known."""
    return next((name for magic, at, name in _MAGIC if data.startswith(magic, at)), "")
