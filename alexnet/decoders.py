"""Decoders that not every installation has: bounded to a thread each, and what to do without."""

from PIL import AvifImagePlugin, features

try:
    import pi_heif
except ImportError:
    pi_heif = None

# The pool of decoders has a thread for each CPU already.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
if pi_heif:
    pi_heif.register_heif_opener(
        decode_threads=0, thumbnails=False, depth_images=False, aux_images=False
    )


def missing(name: str) -> str:
    """What to do where the format cannot be decoded here; empty where it can."""
    if name == "HEIF" and not pi_heif:
        return (
            "HEIC cannot be decoded here: pi-heif is not installed (pip install pi-heif); "
            "or send the photo as a JPEG"
        )
    if name == "AVIF" and not features.check("avif"):
        return (
            "AVIF cannot be decoded here: this Pillow was built without it (pip install pillow "
            "has it); or send the photo as a JPEG"
        )
    return ""
