"""Emoji of eight artists as a few-shot set in colour: python scripts/emoji.py FILE.npz [--size 64] [--least 5] [--licence MIT ...]

A class is what is drawn (grinning-face, tiger), an example one artist's drawing of it: a query and the
support of its class are never of one set.
The sets come from npm as Iconify packs them (27 MB, `npm pack`, nothing is installed), and are drawn by resvg (pip install resvg-py).
Classes are the names that at least --least sets have, without skin tones. Animals, plants, food and drink are test, activities
validation, the rest train. Licences are the sets' own: Apache 2.0, MIT, CC BY 4.0, CC BY-SA 4.0; FILE.licences.txt names them, --licence
keeps to some.
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

# the first that has a name says what category it is of: the others have older ones
SETS = ("noto", "twemoji", "openmoji", "fluent-emoji", "emojione", "noto-v1", "emojione-v1", "fxemoji")
SPLITS = {"animals & nature": "test", "food & drink": "test", "activities": "val"}  # of Unicode's categories; the others are train


class Pack(NamedTuple):
    """A set: its drawings as SVG by name, the Unicode category of each name that has one, and what may be done with it."""

    drawings: dict[str, str]
    categories: dict[str, str]
    licence: str
    notice: str


def read_pack(archive: Path) -> Pack:
    """Of an npm package of Iconify's."""
    with tarfile.open(archive) as tar:
        content = {name: json.load(tar.extractfile(f"package/{name}.json")) for name in ("icons", "info", "metadata")}  # type: ignore[arg-type]
    icons, info = content["icons"], content["info"]
    drawings = {name: svg(icon, icons) for name, icon in icons["icons"].items() if "skin-tone" not in name}
    categories = {name: group.lower() for group, names in content["metadata"].get("categories", {}).items() for name in names}
    notice = f"{info['name']} by {info['author']['name']}, {info['license']['title']}, {info['author'].get('url', '')}"
    return Pack(drawings, categories, info["license"]["spdx"], notice)


def svg(icon: dict[str, Any], icons: dict[str, Any]) -> str:
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{icon["body"]}</svg>'


def classes_of(packs: list[Pack], least: int) -> dict[str, str]:
    """The split of each class, by its name."""
    counts = Counter(name for pack in packs for name in pack.drawings)
    groups: dict[str, str] = {}
    for pack in packs:
        groups = pack.categories | groups
    return {name: SPLITS.get(groups[name], "train") for name in sorted(counts) if counts[name] >= least and name in groups}


def draw(text: str, size: int) -> np.ndarray:
    """(size, size, 3) uint8 on white."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=text, width=size, height=size, background="#ffffff", skip_system_fonts=True)
    image = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    canvas = Image.new("RGB", (size, size), "white")
    canvas.paste(image.resize((size, size)) if max(image.size) != size else image, ((size - image.width) // 2, (size - image.height) // 2))
    return np.asarray(canvas)


def write(file: Path, packs: list[Pack], size: int, least: int) -> None:
    """As task=emoji reads it."""
    split = classes_of(packs, least)
    images, labels = [], []
    for number, name in enumerate(split):
        drawn = [draw(pack.drawings[name], size) for pack in packs if name in pack.drawings]
        images += drawn
        labels += [number] * len(drawn)
    np.savez_compressed(
        file, images=np.stack(images), labels=np.array(labels), class_names=np.array(list(split)), split=np.array(list(split.values()))
    )
    Path(f"{file}.licences.txt").write_text("\n".join(pack.notice for pack in packs) + "\n")
    print(f"emoji: {file}, {len(split)} classes, {len(images)} drawings; {Counter(split.values())}")


def download(folder: str, licences: list[str]) -> list[Pack]:
    if not shutil.which("npm"):
        sys.exit("this takes the drawings from npm, which is not here; install Node.js")
    done = subprocess.run(["npm", "pack", *(f"@iconify-json/{name}" for name in SETS)], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"npm could not download the sets: {' '.join(done.stderr.split())[-300:]}")
    packs = [read_pack(path) for name in SETS for path in Path(folder).glob(f"iconify-json-{name}-[0-9]*.tgz")]
    return [pack for pack in packs if not licences or pack.licence in licences]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--size", type=int, default=64, help="pixels of a side")
    parser.add_argument("--least", type=int, default=5, help="sets that have a class")
    parser.add_argument("--licence", action="append", default=[], help="as MIT or CC-BY-4.0; may be given again")
    arguments = parser.parse_args()
    if arguments.file.suffix != ".npz":
        sys.exit(f"the drawings are written into an .npz file, got {arguments.file}; name it {arguments.file.with_suffix('.npz')}")
    try:
        import resvg_py  # noqa: F401
    except ImportError:
        sys.exit("this draws with resvg; pip install resvg-py")
    with tempfile.TemporaryDirectory() as folder:
        packs = download(folder, arguments.licence)
    if len(packs) < arguments.least:
        sys.exit(f"{len(packs)} sets are of such a licence, and a class needs {arguments.least}; lower --least")
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    write(arguments.file, packs, arguments.size, arguments.least)


if __name__ == "__main__":
    main()
