"""Characters drawn from the fonts that matplotlib ships: a stand-in for Omniglot with nothing to download."""

import unicodedata
from functools import cache
from math import cos, radians, sin
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.class_tasks import ClassTasks
from innerloop.tasks.readers import Pictures

# A character's script is the first word of its Unicode name. No script is in two splits.
SCRIPTS: dict[Split, tuple[str, ...]] = {
    "train": ("LATIN", "GREEK", "CANADIAN", "LAO"),
    "val": ("ARMENIAN", "HEBREW"),
    "test": ("CYRILLIC", "GEORGIAN"),
}
# Not Computer Modern (TeX's encoding: its character map names the wrong letters), nor the symbol fonts. The first is the reference.
FONTS = (
    "DejaVuSans", "DejaVuSans-Oblique", "DejaVuSans-Bold", "DejaVuSans-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Italic", "DejaVuSerif-Bold", "DejaVuSerif-BoldItalic",
    "DejaVuSansMono", "DejaVuSansMono-Oblique", "DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique",
    "STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol", "STIXGeneralBolIta",
)  # fmt: skip
IMAGES_PER_CLASS = 20  # as in Omniglot
SIZE = 28
CANVAS = 2 * SIZE  # drawn at twice the size and halved, which smooths the edges
SEED = 2015
# At most, both ways: degrees turned, shear, width and height scaled, pixels of the canvas shifted right and down. With these,
# the nearest class mean on raw pixels is right in 43 % of test queries of 5 ways with 1 shot, 64 % with 5 (300 episodes, +-1 %).
JITTER = np.array([15, 0.2, 0.2, 0.2, 4, 4])
SHAPE = 16  # shapes are compared at this size and blurred, so that stroke weight hardly counts
ALIKE = 0.8  # correlation of two shapes, each stretched to its bounding box, above which the later one is dropped


class Font(NamedTuple):
    """A font and the code points that it really has: any other would be drawn as an empty box."""

    face: ImageFont.FreeTypeFont
    characters: frozenset[int]


class Glyphs(ClassTasks):
    """Tell `ways` unseen characters apart: 20 images of each, in different fonts, turned, sheared, scaled, shifted and thickened.

    x: (ways * shots, 1, 28, 28) float32 in [0, 1], ink 1. Training, validation and test characters come from different scripts. The images
    are the same on every call for given versions of matplotlib and pillow. train_ways, train_shots, train_queries: the shape of a training
    episode. Raises InputError for a count below its least, and, from `distribution`, for more ways or images than there are.
    """

    input_shape = (1, SIZE, SIZE)
    reader = Pictures(1, SIZE, SIZE, ink=True)

    def classes(self, split: Split) -> Classes:
        images = draw_split(split)
        members = list(np.arange(len(images)).reshape(-1, IMAGES_PER_CLASS))
        return Classes(images, members, [unicodedata.name(character) for character in characters_of(split)])


def characters_of(split: Split) -> list[str]:
    """The classes of a split, one character each, in a fixed order."""
    return [character for character in _distinct_characters() if script_of(character) in SCRIPTS[split]]


def script_of(character: str) -> str:
    """The first word of a character's Unicode name, such as LATIN."""
    return unicodedata.name(character).split()[0]


@cache
def draw_split(split: Split) -> np.ndarray:
    """All images of a split, 20 rows for each class in the order of `characters_of`: (20 * classes, 1, 28, 28) uint8, ink 255."""
    images = np.stack([image for character in characters_of(split) for image in _draw_class(character)])[:, None]
    images.flags.writeable = False  # shared by every Glyphs of this process
    return images


@cache
def _fonts() -> tuple[Font, ...]:
    return tuple(_load_font(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf") for name in FONTS)


def _load_font(path: Path) -> Font:
    # The basic layout is in every build of pillow; the other one depends on a system library.
    face = ImageFont.truetype(str(path), round(CANVAS * 0.7), layout_engine=ImageFont.Layout.BASIC)
    return Font(face, frozenset(FT2Font(str(path)).get_charmap()))


@cache
def _distinct_characters() -> tuple[str, ...]:
    """Every letter of SCRIPTS without those that look like an earlier one (Latin A, Greek Alpha, Cyrillic A; o and O), over all splits."""
    scripts = [script for of_split in SCRIPTS.values() for script in of_split]
    letters = sorted(_letters(scripts), key=lambda letter: (scripts.index(script_of(letter)), letter))
    kept: list[str] = []
    shapes = np.zeros((len(letters), SHAPE**2))
    for letter in letters:
        shape = _shape(letter)
        if not np.any(shapes[: len(kept)] @ shape > ALIKE):
            shapes[len(kept)] = shape
            kept.append(letter)
    return tuple(kept)


def _letters(scripts: list[str]) -> list[str]:
    """The letters of the reference font in these scripts, save those that the canvas would cut off and tiny raised ones.

    No accented ones and no variants of a letter (K WITH STROKE) either: at 28 pixels they are hardly told from their base letter.
    """
    characters = _fonts()[0].characters
    letters = [chr(code) for code in sorted(characters) if unicodedata.category(chr(code)) in ("Lu", "Ll", "Lo")]
    letters = [letter for letter in letters if script_of(letter) in scripts]
    letters = [letter for letter in letters if not unicodedata.decomposition(letter) and " WITH " not in unicodedata.name(letter)]
    return [letter for letter in letters if _fits(letter)]


def _fits(letter: str) -> bool:
    box = _draw_centred(letter, _fonts()[0].face, stroke=0).getbbox()
    if box is None:  # a blank
        return False
    left, top, right, bottom = box
    return bottom - top > CANVAS / 3 and right - left < 0.9 * CANVAS


def _shape(letter: str) -> np.ndarray:
    """The letter in the reference font, stretched to its bounding box, as a vector of mean 0 and length 1."""
    drawn = _draw_centred(letter, _fonts()[0].face, stroke=0)
    stretched = drawn.crop(drawn.getbbox()).resize((SHAPE, SHAPE), Image.Resampling.BOX)
    vector = np.asarray(stretched.filter(ImageFilter.GaussianBlur(SHAPE / 12)), dtype=np.float64).ravel()
    if vector.mean() > 0.6 * 255:  # plain bars fill their box: without this they would be told apart by the noise of their edges
        return np.full(SHAPE**2, 1 / SHAPE)
    vector -= vector.mean()
    return vector / np.linalg.norm(vector)


def _draw_class(character: str) -> list[np.ndarray]:
    """20 different images of a character, (28, 28) uint8 each. Keyed by the character, so no image depends on the other classes."""
    rng = np.random.default_rng([SEED, ord(character)])
    faces = [font.face for font in _fonts() if ord(character) in font.characters]
    chosen, strokes = rng.integers(len(faces), size=IMAGES_PER_CLASS), rng.integers(2, size=IMAGES_PER_CLASS)
    drawn = [_draw_centred(character, faces[face], int(stroke)) for face, stroke in zip(chosen, strokes, strict=True)]
    jitter = rng.uniform(-JITTER, JITTER, size=(IMAGES_PER_CLASS, len(JITTER)))
    return [_transform(image, *row) for image, row in zip(drawn, jitter.tolist(), strict=True)]


def _transform(image: Image.Image, turn: float, shear: float, wide: float, high: float, shift_x: float, shift_y: float) -> np.ndarray:
    """The image turned by degrees, sheared, its width and height scaled by 1 + them, shifted by canvas pixels: (28, 28) uint8."""
    angle, wide, high = radians(turn), 1 + wide, 1 + high
    # PIL asks for the inverse map: which point of the old image, relative to its centre, each pixel of the new one shows.
    a, b = cos(angle) / wide, (sin(angle) + shear) / wide
    d, e = -sin(angle) / high, cos(angle) / high
    x, y = CANVAS / 2 + shift_x, CANVAS / 2 + shift_y
    inverse = (a, b, CANVAS / 2 - a * x - b * y, d, e, CANVAS / 2 - d * x - e * y)
    return np.asarray(image.transform(image.size, Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR).reduce(2))


def _draw_centred(character: str, face: ImageFont.FreeTypeFont, stroke: int) -> Image.Image:
    """The character in the middle of a canvas, its box reckoned from the origin of the font's line: (56, 56), 8 bits."""
    left, top, right, bottom = face.getbbox(character, stroke_width=stroke)
    canvas = Image.new("L", (CANVAS, CANVAS))
    corner = ((CANVAS - left - right) // 2, (CANVAS - top - bottom) // 2)
    ImageDraw.Draw(canvas).text(corner, character, fill=255, font=face, stroke_width=stroke)
    return canvas
