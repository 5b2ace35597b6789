"""Photographs with boxes around objects: COCO's layout, or Pascal VOC's."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from innerloop.config import InputError
from innerloop.tasks.archives import opened

KINDS = "a folder or a zip of images with boxes: COCO (annotations in .json) or Pascal VOC (an .xml for each image)"
SLACK = 0.01  # of a side: annotators' boxes end a pixel outside


class Thing(NamedTuple):
    """An object: its class, and its box in parts of the image's sides."""

    name: str
    top: float
    left: float
    bottom: float
    right: float


class Photo(NamedTuple):
    """What is on a photograph, and its sides by the annotations, in pixels."""

    things: list[Thing]
    height: float
    width: float


def read_boxes(root: Path) -> dict[str, Photo]:
    """The photographs with objects, by the path of the file.

    Raises InputError where nothing of the kind is in `root`, an image is missing or could be one of several, or a box is outside of it or
    inside out.
    """
    with opened(root, f"task.root must be {KINDS}") as (names, read):
        jsons, xmls = ([name for name in names if name.lower().endswith(ending)] for ending in (".json", ".xml"))
        called: dict[str, list[str]] = {}
        for path in sorted(names):
            called.setdefault(PurePosixPath(path).name, []).append(path)
        found: dict[str, Photo] = {}
        for files, parse in ((jsons, of_coco), (xmls, of_pascal)):
            for file in files:
                for named, photo in parse(root, file, read).items():
                    image = meant(root, file, named, called)
                    found[image] = photo._replace(things=[*found[image].things, *photo.things]) if image in found else photo
    if found := {image: photo for image, photo in found.items() if photo.things}:
        return found
    raise InputError(f"{root} has no box around any object; task.root must be {KINDS}")


def meant(root: Path, file: str, named: str, called: dict[str, list[str]]) -> str:
    """Of the files of that name the one whose folders are most like those it is named with, and of such the nearest to the annotations in
    `file`."""

    def alike(path: str) -> tuple[int, int]:
        parts, wanted, of_file = (PurePosixPath(name).parts for name in (path, named, file))
        return same(parts[::-1], wanted[::-1]), same(parts, of_file)

    def same(some: Sequence[str], others: Sequence[str]) -> int:
        """How many they have in common from the beginning on."""
        return next((at for at, (one, other) in enumerate(zip(some, others, strict=False)) if one != other), min(len(some), len(others)))

    there = sorted(called.get(PurePosixPath(named).name, []), key=alike, reverse=True)
    if not there:
        raise InputError(f"{file} in {root} names {named}, which is not there; bring it, or take it out of the file")
    if len(there) > 1 and alike(there[0]) == alike(there[1]):
        raise InputError(f"{file} in {root} names {named}, which may be {there[0]} or {there[1]}; name it with its folder")
    return there[0]


def of_coco(root: Path, file: str, read: Callable[[str], bytes]) -> dict[str, Photo]:
    try:
        content = json.loads(read(file))
        if not isinstance(content, dict) or not {"annotations", "categories", "images"} <= content.keys():  # of something else, as captions
            return {}
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        images = {image["id"]: image for image in content["images"]}
        found = {str(image["file_name"]): Photo([], image["height"], image["width"]) for image in images.values()}
        for one in content["annotations"]:
            if one.get("iscrowd"):
                continue
            name, (x, y, width, height) = str(images[one["image_id"]]["file_name"]), one["bbox"]
            found[name].things.extend(checked(root, name, names[one["category_id"]], (y, x, y + height, x + width), found[name]))
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} in {root} cannot be read as COCO's annotations ({type(error).__name__}: {error})") from error
    return found


def of_pascal(root: Path, file: str, read: Callable[[str], bytes]) -> dict[str, Photo]:
    try:
        tree = ET.fromstring(read(file))
        if tree.tag != "annotation":
            return {}
        name, sides = tree.findtext("filename") or "", (float(tree.findtext(f"size/{side}") or "") for side in ("height", "width"))
        photo = Photo([], *sides)
        for one in tree.iter("object"):
            left, top, right, bottom = (float(one.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax"))
            photo.things.extend(checked(root, name, one.findtext("name") or "", (top - 1, left - 1, bottom, right), photo))
    except InputError:
        raise
    except (ET.ParseError, ValueError) as error:
        raise InputError(f"{file} in {root} cannot be read as Pascal VOC's annotations ({error})") from error
    return {name: photo}


def checked(root: Path, image: str, name: str, sides: Sequence[float], photo: Photo) -> list[Thing]:
    """The object; none where its box has no area. Raises InputError for a box that cannot be."""
    if not (photo.height > 0 and photo.width > 0):
        raise InputError(f"{image} in {root} has {photo.height:g} x {photo.width:g} pixels by its annotations; mend them")
    top, left, bottom, right = (side / (photo.height, photo.width)[at % 2] for at, side in enumerate(sides))
    box = f"{image} in {root}: the box of a '{name}', {[*map(round, sides)]} (top, left, bottom, right)"
    if not (top <= bottom and left <= right):
        raise InputError(f"{box}, is inside out; mend it")
    if min(top, left) < -SLACK or max(bottom, right) > 1 + SLACK:
        raise InputError(f"{box}, is outside of the image's {photo.height:g} x {photo.width:g} pixels; mend it")
    return [] if top == bottom or left == right else [Thing(name, max(top, 0.0), max(left, 0.0), min(bottom, 1.0), min(right, 1.0))]
