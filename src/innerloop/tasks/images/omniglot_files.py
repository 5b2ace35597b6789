"""Omniglot as it is published: two zips (or their extracted folders) of PNG files, found, downloaded, read and checked."""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image

from innerloop.config import InputError
from innerloop.tasks.archives import opened
from innerloop.tasks.class_split import read_split
from innerloop.tasks.download import download

CHARACTERS = {"images_background": 964, "images_evaluation": 659}  # how many each half holds
DRAWINGS = 20  # of each character, by twenty people
SIDE = 105  # pixels

BASE_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
# For downloads only: a zip that the user made from the same images is as good.
MD5 = {"images_background": "68d2efa1b9178cc56df9314c21c6e718", "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811"}


def find_sources(root: Path) -> list[Path] | None:
    """The folder, else the zip, of each half; None unless both halves are there."""
    found = [_find(root, half) for half in CHARACTERS]
    sources = [source for source in found if source]
    return sources if len(sources) == len(found) else None


def fetch_sources(root: Path) -> list[Path]:
    """As find_sources, downloading what is missing into `root`. Raises InputError where that fails."""
    wanted = " and ".join(f"{half}.zip" for half in CHARACTERS)
    return [_find(root, half) or download(BASE_URL, f"{half}.zip", f"md5:{MD5[half]}", root, wanted) for half in CHARACTERS]


def _find(root: Path, half: str) -> Path | None:
    folder, archive = root / half, root / f"{half}.zip"
    return folder if folder.is_dir() else archive if archive.exists() else None


def read_characters(source: Path, expected: int) -> Iterator[tuple[str, list[Image.Image]]]:
    """Yields each character ("Alphabet/characterNN") with its 20 drawings (105x105, mode L, ink 0 on 255) in the order of their file names.

    Raises InputError unless `source`, a zip or a folder, holds `expected` whole characters.
    """
    with opened(source, _remedy(source)) as (names, read):
        drawings = _by_character(names)
        _check_complete(source, drawings, expected)
        for character, members in drawings.items():
            yield character, [_decode(source, name, read) for name in members]


def _by_character(names: list[str]) -> dict[str, list[str]]:
    """The PNG files of each character. Whatever else lies about (read-me files) is passed over."""
    drawings: dict[str, list[str]] = {}
    for name in sorted(names):
        parts = PurePosixPath(name).parts
        if name.lower().endswith(".png") and len(parts) >= 3:
            drawings.setdefault("/".join(parts[-3:-1]), []).append(name)
    return drawings


def _check_complete(source: Path, drawings: dict[str, list[str]], expected: int) -> None:
    for character, members in drawings.items():
        if len(members) != DRAWINGS:
            raise InputError(f"{source} holds {len(members)} drawings of {character} where {DRAWINGS} are expected; {_remedy(source)}")
    if len(drawings) != expected:
        gap = _first_missing(drawings)
        raise InputError(f"{source} holds {len(drawings)} characters where {expected} are expected{gap}; {_remedy(source)}")


def _first_missing(drawings: dict[str, list[str]]) -> str:
    """Names a character that is not there though others of its alphabet are."""
    alphabets = {character.split("/")[0] for character in drawings}
    missing = sorted(c for c in read_split("omniglot_vinyals") if c.split("/")[0] in alphabets and c not in drawings)
    return f" ({missing[0]} is missing)" if missing else ""


def _decode(source: Path, name: str, read: Callable[[str], bytes]) -> Image.Image:
    try:
        image = Image.open(BytesIO(read(name))).convert("L")
    except Exception as error:  # a damaged file makes zipfile, zlib and Pillow raise almost anything
        raise InputError(f"{name} in {source} cannot be read as an image; {_remedy(source)}") from error
    if image.size != (SIDE, SIDE):
        width, height = image.size
        raise InputError(f"{name} in {source} is {width}x{height} pixels where {SIDE}x{SIDE} are expected; {_remedy(source)}")
    return image


def _remedy(source: Path) -> str:
    return f"delete this {'folder' if source.is_dir() else 'file'} and start again to download the official one"
