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


def read_boxes(root: Path) -> dict[str, list[Thing]]:
    """The objects of each image, by the name of its file; images without one are not there.

    Raises InputError where nothing of the kind is in `root`, an image is missing, or a box is outside of it or inside out.
    """
    with opened(root, f"task.root must be {KINDS}") as (names, read):
        jsons, xmls = ([name for name in names if name.lower().endswith(ending)] for ending in (".json", ".xml"))
        places = {PurePosixPath(name).name: name for name in sorted(names)}
        found: dict[str, list[Thing]] = {}
        for files, parse in ((jsons, of_coco), (xmls, of_pascal)):
            for file in files:
                for image, things in parse(root, file, read).items():
                    if image not in places:
                        raise InputError(f"{file} in {root} names {image}, which is not there; bring it, or take it out of the file")
                    found.setdefault(places[image], []).extend(things)
    if found := {image: things for image, things in found.items() if things}:
        return found
    raise InputError(f"{root} has no box around any object; task.root must be {KINDS}")


def of_coco(root: Path, file: str, read: Callable[[str], bytes]) -> dict[str, list[Thing]]:
    try:
        content = json.loads(read(file))
        if not isinstance(content, dict) or "annotations" not in content:  # of something else
            return {}
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        images = {image["id"]: image for image in content["images"]}
        found: dict[str, list[Thing]] = {PurePosixPath(image["file_name"]).name: [] for image in images.values()}
        for one in content["annotations"]:
            if one.get("iscrowd"):
                continue
            image, (x, y, width, height) = images[one["image_id"]], one["bbox"]
            name = PurePosixPath(image["file_name"]).name
            sides = (y, x, y + height, x + width)
            found[name].append(checked(root, name, names[one["category_id"]], sides, image["height"], image["width"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} in {root} cannot be read as COCO's annotations ({type(error).__name__}: {error})") from error
    return found


def of_pascal(root: Path, file: str, read: Callable[[str], bytes]) -> dict[str, list[Thing]]:
    try:
        tree = ET.fromstring(read(file))
        if tree.tag != "annotation":
            return {}
        name, (height, width) = (
            tree.findtext("filename") or "",
            (float(tree.findtext(f"size/{side}") or "") for side in ("height", "width")),
        )
        things = []
        for one in tree.iter("object"):
            left, top, right, bottom = (float(one.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax"))
            things.append(checked(root, name, one.findtext("name") or "", (top - 1, left - 1, bottom, right), height, width))
    except (ET.ParseError, ValueError) as error:
        raise InputError(f"{file} in {root} cannot be read as Pascal VOC's annotations ({error})") from error
    return {name: things}


def checked(root: Path, image: str, name: str, sides: Sequence[float], height: float, width: float) -> Thing:
    """Raises InputError for a box that cannot be."""
    top, left, bottom, right = sides[0] / height, sides[1] / width, sides[2] / height, sides[3] / width
    if not (top < bottom and left < right):
        raise InputError(
            f"{image} in {root}: the box of a '{name}', {[*map(round, sides)]} (top, left, bottom, right), is inside out; mend it"
        )
    if min(top, left) < -SLACK or max(bottom, right) > 1 + SLACK:
        raise InputError(
            f"{image} in {root}: the box of a '{name}', {[*map(round, sides)]} (top, left, bottom, right), is outside of the image's "
            f"{height:g} x {width:g} pixels; mend it"
        )
    return Thing(name, max(top, 0.0), max(left, 0.0), min(bottom, 1.0), min(right, 1.0))
