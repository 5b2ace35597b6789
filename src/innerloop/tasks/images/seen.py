"""A picture as people see it, whatever its file says."""

import contextlib

import numpy as np
from PIL import Image, ImageOps


def is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I;16")


def upright(image: Image.Image) -> Image.Image:
    """As the camera was held; where what it wrote into the file cannot be read, as it lies, as viewers do."""
    with contextlib.suppress(Exception):
        return ImageOps.exif_transpose(image)
    return image


def as_seen(image: Image.Image, bits: int = 16) -> Image.Image:
    """Upright and in 8 bits, where Pillow would cut more off at 255; what is transparent is white. bits: that 16-bit images use."""
    return in_8_bits(upright(image), bits)


def in_8_bits(image: Image.Image, bits: int = 16) -> Image.Image:
    if is_deep(image):
        return Image.fromarray(np.minimum(np.asarray(image) >> (bits - 8), 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
