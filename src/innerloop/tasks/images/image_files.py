"""Images with a class each: a tree of class folders, a zip of one, or an array file."""

import logging
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from innerloop.config import InputError
from innerloop.tasks.archives import opened
from innerloop.tasks.base import SPLITS
from innerloop.tasks.class_split import assigned
from innerloop.tasks.images.seen import as_seen, is_deep

log = logging.getLogger(__name__)
KINDS = "a folder with a folder for each class, a zip of one, or an .npz"


class ImageSource(NamedTuple):
    """counts: how many images each class has. images: they, class after class. split: of each class, where the source says so. about: the
    bits of 16-bit images, there once one is read."""

    counts: dict[str, int]
    images: Iterator[Image.Image]
    split: dict[str, str] | None
    about: dict[str, int]


@contextmanager
def image_source(root: Path, folders: Sequence[str] | None = None, pool: bool = False) -> Iterator[ImageSource]:
    """folders: those in `root` to look into, all if None. pool: a class may be in several of train, val and test, and is one of all its
    images there, whose split is open.

    Raises InputError where `root` is missing, damaged, or has no classes; while the images come, for one that cannot be read.
    """
    if root.suffix == ".npz":
        yield read_arrays(root)
        return
    with opened(root, f"task.root must be {KINDS}") as (names, read):
        classes, split = classes_of(root, names, folders, pool)
        files = [name for members in classes.values() for name in members]
        about: dict[str, int] = {}
        images = (as_seen(image, **about) for image in decoded(root, files, read, about))
        yield ImageSource({name: len(members) for name, members in classes.items()}, images, split, about)


def classes_of(
    root: Path, names: list[str], folders: Sequence[str] | None, pool: bool
) -> tuple[dict[str, list[str]], dict[str, str] | None]:  # fmt: skip
    """The files of each class, which is named by its path below all that the classes share; and its split, where they lie in folders
    named train, val and test."""
    if folders is not None:
        names = below_folders(root, names, folders)
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(names):
        path = PurePosixPath(name)
        if path.suffix.lower() in suffixes:
            found.setdefault(path.parent.parts, []).append(name)
    if len(found) > 1 and () in found:
        raise beside(root, found[()][0])
    if len(found) < 2:
        raise InputError(f"{root} has images of {len(found) - (() in found)} classes in folders of their own; task.root must be {KINDS}")
    shared = 0
    while len({folder[: shared + 1] for folder in found}) == 1:
        shared += 1
    below = {folder[shared:]: members for folder, members in found.items()}
    if () in below:
        raise beside(root, below[()][0])
    tops = {folder[0] for folder in below}
    if tops.isdisjoint(folder[0] for folder in below if folder[0] in SPLITS and len(folder) > 1):
        return {"/".join(folder): members for folder, members in below.items()}, None
    if other := sorted(tops - {*SPLITS}) or ["/".join(folder) for folder in below if len(folder) < 2]:
        raise InputError(
            f"{root} has {other[0]} beside folders of splits; name these train, val and test, with a folder for each class, "
            "or say which to take, task.folders=[train,val,test]"
        )
    if pool:
        pooled: dict[str, list[str]] = {}
        for folder in sorted(below, key=lambda folder: (folder[1:], SPLITS.index(folder[0]))):  # type: ignore[arg-type]
            pooled.setdefault("/".join(folder[1:]), []).extend(below[folder])
        return pooled, None
    split: dict[str, str] = {}
    for folder in below:
        name = "/".join(folder[1:])
        if name in split:
            raise InputError(
                f"{root} has class '{name}' in {split[name]} and in {folder[0]}, and few-shot classes are of one split alone; "
                "task.pool=true takes all images of a class together and splits the classes"
            )
        split[name] = folder[0]
    return {"/".join(folder[1:]): members for folder, members in below.items()}, split


def beside(root: Path, name: str) -> InputError:
    return InputError(
        f"{root} has images beside the folders of its classes ({name}); put them into one, take them out, or say which folders to take, "
        "task.folders=[...]"
    )


def below_folders(root: Path, names: list[str], folders: Sequence[str]) -> list[str]:
    """The files below some of the folders in `root`, or, of a zip, in its outermost folder."""
    tops = {PurePosixPath(name).parts[0] for name in names}
    depth = 1 if len(tops) == 1 and not tops & {*folders} else 0
    kept = {folder: [name for name in names if PurePosixPath(name).parts[depth : depth + 1] == (folder,)] for folder in folders}
    there = sorted({parts[depth] for name in names if len(parts := PurePosixPath(name).parts) > depth + 1})
    if empty := next((folder for folder, files in kept.items() if not files), None):
        raise InputError(f"task.folders names {empty}, and {root} has none of that name; it has {', '.join(there)}")
    return [name for files in kept.values() for name in files]


def decode(root: Path, name: str, read: Callable[[str], bytes]) -> Image.Image:
    try:
        image = Image.open(BytesIO(read(name)))
        image.load()
    except InputError:
        raise
    except Exception as error:  # a damaged file makes zipfile, zlib and Pillow raise almost anything
        raise InputError(f"{name} in {root} cannot be read as an image; replace it or delete it") from error
    if image.mode in ("I", "F"):
        raise InputError(f"{name} in {root} has 32 bits a pixel, of no known range; save it with 8 or 16")
    return image


def decoded(root: Path, names: Sequence[str], read: Callable[[str], bytes], about: dict[str, int]) -> Iterator[Image.Image]:
    """The images of those names, as they lie in their files. about: "bits", those that 16-bit ones use, is there before the first such."""
    for name in names:
        image = decode(root, name, read)
        if is_deep(image) and "bits" not in about:
            about["bits"] = bits_of(root, names, read)
        yield image


def bits_of(root: Path, names: Sequence[str], read: Callable[[str], bytes]) -> int:
    """How many bits the 16-bit images of a set use, 8 to 16: cameras and scanners often have 12."""
    most = max(int(np.asarray(image).max()) for image in (decode(root, name, read) for name in names) if is_deep(image))
    bits = max(8, most.bit_length())
    if bits < 16:
        log.info(f"the 16-bit images in {root} use {bits} bits: white is {2**bits - 1}")
    return bits


def read_arrays(path: Path) -> ImageSource:
    """An .npz with images uint8, (classes, images, height, width[, 3]) or (images, height, width[, 3]) with labels (images,); and, where
    there are such, class_names and the split of each class."""
    try:
        with zipfile.ZipFile(path) as members:
            needed = sum(member.file_size for member in members.infolist())
        if needed > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
            raise InputError(f"{path} unpacks to {needed / 1e9:.0f} GB, and this machine has {memory / 1e9:.0f}; bring a folder or a zip")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        images, labels = arrays["images"], arrays.get("labels")
        if labels is None:
            if images.ndim != 4 + (images.shape[-1] == 3):
                raise ValueError("it has no labels, and no axis of classes before that of images")
            labels = np.repeat(np.arange(len(images)), images.shape[1])
            images = images.reshape(-1, *images.shape[2:])
        if images.dtype != np.uint8 or images.shape[3:] not in ((), (3,)) or len(images) != len(labels):
            raise ValueError("images must be uint8 (images, height, width) or (images, height, width, 3), with as many labels")
        numbers = np.unique(labels)
        names = [str(name) for name in arrays["class_names"]] if "class_names" in arrays else [str(label) for label in numbers]
        if len(set(names)) < len(names) or len(names) != len(numbers):
            raise ValueError(f"it has {len(numbers)} classes and {len(set(names))} names of classes")
        split = assigned(zip(names, map(str, arrays["split"]), strict=True), str(path)) if "split" in arrays else None
        rows = {name: np.flatnonzero(labels == number) for name, number in zip(names, numbers, strict=True)}
    except InputError:
        raise
    except Exception as error:  # whatever damaged bytes lead to
        raise InputError(
            f"{path} cannot be read as images and their classes ({str(error).splitlines()[0]}); see docs/your_data.md"
        ) from error
    drawn = (Image.fromarray(images[row]) for members in rows.values() for row in members)
    return ImageSource({name: len(members) for name, members in rows.items()}, drawn, split, {})
