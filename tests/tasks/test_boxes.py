"""Photographs with boxes in COCO's and Pascal VOC's layout."""

import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from innerloop.config import InputError
from innerloop.detection import decode_boxes
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from innerloop.tasks.images import boxes
from innerloop.tasks.images.box_files import read_boxes
from tests.conftest import TINY, compose_run

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255), "yellow": (255, 255, 0)}
SIZES = ["task.size=32", "task.grid=4", "task.ways=1", "task.shots=2", "task.queries=2"]
FEW = [*TINY, "task=boxes", *SIZES, "model.filters=4", "algo.inner_lr=0.1"]
SPLIT = {"red": "train", "green": "train", "blue": "val", "white": "test", "yellow": "test"}


def photographs(folder, count=6):
    """Rectangles on black, 60 x 40 pixels, so many images of each colour; returns what is where, as x, y, width, height."""
    rng, found = np.random.default_rng(0), {}
    (folder / "images").mkdir(parents=True)
    for name, color in COLORS.items():
        for index in range(count):
            image = np.zeros((40, 60, 3), np.uint8)
            (x, y), (width, height) = rng.integers((30, 20)), rng.integers(8, 20, size=2)
            image[y : y + height, x : x + width] = color
            Image.fromarray(image).save(folder / "images" / f"{name}{index}.png")
            found[f"{name}{index}.png"] = [(name, [int(v) for v in (x, y, width, height)])]
    (folder / "split.csv").write_text("class,split\n" + "\n".join(f"{name},{part}" for name, part in SPLIT.items()) + "\n")
    return found


def write_coco(folder, found):
    categories = {name: number for number, name in enumerate(COLORS, 1)}
    images = [{"id": number, "file_name": f"images/{name}", "height": 40, "width": 60} for number, name in enumerate(found)]
    annotations = [
        {"image_id": number, "category_id": categories[kind], "bbox": box}
        for number, things in enumerate(found.values())
        for kind, box in things
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": i, "name": name} for name, i in categories.items()]}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


def write_pascal(folder, found):
    for image, things in found.items():
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>"
            "</bndbox></object>"
            for name, (x, y, w, h) in things
        )
        text = f"<annotation><filename>{image}</filename><size><width>60</width><height>40</height></size>{objects}</annotation>"
        (folder / f"{image}.xml").write_text(text)
    return folder


def test_both_layouts_say_the_same(tmp_path):
    coco = write_coco(tmp_path / "coco", photographs(tmp_path / "coco"))
    pascal = write_pascal(tmp_path / "voc", photographs(tmp_path / "voc"))
    with zipfile.ZipFile(tmp_path / "coco.zip", "w") as archive:
        for path in sorted(coco.rglob("*")):
            archive.write(path, str(path.relative_to(coco)))
    assert read_boxes(coco) == read_boxes(pascal) == read_boxes(tmp_path / "coco.zip")


def test_boxes_are_around_what_is_drawn(tmp_path):
    root = write_coco(tmp_path / "coco", photographs(tmp_path / "coco"))
    tasks = build_run(compose_run(*FEW, f"task.root={root}", f"task.split={root}/split.csv")).data.tasks
    for (image, y), _ in [tasks.distribution("test").sample(np.random.default_rng(i)) for i in range(5)]:
        for picture, targets in zip(image, y, strict=True):
            (box,) = decode_boxes(targets[:, 1:])[targets[:, 0] > 0] * 8
            rows, columns = (torch.nonzero(picture.amax(0).amax(axis) > 0.5)[:, 0] for axis in (1, 0))
            around = torch.stack([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]).float()
            assert (box - around).abs().max() <= 1.01


def test_images_with_classes_of_the_test_are_not_trained_on(tmp_path):
    found = photographs(tmp_path / "coco")
    found["red0.png"].append(("white", [0, 0, 5, 5]))
    root = write_coco(tmp_path / "coco", found)
    tasks = build_run(compose_run(*FEW, f"task.root={root}", f"task.split={root}/split.csv")).data.tasks
    rows = {split: set(tasks.rows(split)) for split in ("train", "val", "test")}
    assert len(rows["train"]) == 11 and len(rows["test"]) == 13 and not rows["train"] & rows["test"]
    support, query = tasks.distribution("train").sample(np.random.default_rng(0))
    pictures = torch.cat([support.x, query.x]).flatten(1)
    assert len(pictures.unique(dim=0)) == 4  # none twice in an episode


def test_images_are_decoded_once(tmp_path, monkeypatch):
    """What is written beside them is no reason to decode them again; another image is."""
    root = write_coco(tmp_path / "coco", photographs(tmp_path / "coco"))
    build_run(compose_run(*FEW, f"task.root={root}"))
    (root / "other.prepared.partial").write_bytes(b"of another process")
    (root / ".split.csv.1f").write_bytes(b"too")
    monkeypatch.setattr(boxes, "prepare", lambda *_: pytest.fail("decoded again"))
    build_run(compose_run(*FEW, f"task.root={root}"))
    Image.new("RGB", (60, 40)).save(root / "images" / "red0.png")
    with pytest.raises(pytest.fail.Exception, match="decoded again"):
        build_run(compose_run(*FEW, f"task.root={root}"))


def test_it_trains_on_a_drawn_split(tmp_path):
    root = write_coco(tmp_path / "coco", photographs(tmp_path / "coco"))
    results = run(compose_run(*FEW, f"task.root={root}"), tmp_path / "run")
    assert results["metric"] == "ap50" and results["task"] == "boxes"
    assert (root / "coco_split0.csv").is_file()


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ([50, 5, 30, 10], "red1.png in .*: the box of a 'red', .*, is outside of the image's 40 x 60 pixels"),
        ([20, 5, -4, 10], "red1.png in .*: the box of a 'red', .*, is inside out"),
    ],
)
def test_bad_boxes_are_named(box, sentence, tmp_path):
    found = photographs(tmp_path / "coco")
    found["red1.png"] = [("red", box)]
    with pytest.raises(InputError, match=sentence):
        read_boxes(write_coco(tmp_path / "coco", found))


def one_photo(folder, image, box=(5, 8, 20, 10), height=40, width=60, **options):
    """A folder with a photograph and its COCO file beside it."""
    folder.mkdir(parents=True)
    image.save(folder / "0001.png", **options)
    photo = {"id": 0, "file_name": "0001.png", "height": height, "width": width}
    content = {"images": [photo], "annotations": [{"image_id": 0, "category_id": 1, "bbox": box}], "categories": [{"id": 1, "name": "red"}]}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path):
    root = one_photo(tmp_path / "all" / "a", Image.new("RGB", (60, 40))).parent
    one_photo(root / "b", Image.new("RGB", (60, 40)), box=(10, 10, 10, 10))
    found = read_boxes(root)
    assert {name: photo.things[0].left * 60 for name, photo in found.items()} == pytest.approx({"a/0001.png": 5, "b/0001.png": 10})
    for folder in ("a", "b"):  # one file for both, which names the folders
        (root / folder / "instances.json").unlink()
    (root / "c").mkdir()
    images = [{"id": number, "file_name": f"{name}/0001.png", "height": 40, "width": 60} for number, name in enumerate("ab")]
    annotations = [{"image_id": number, "category_id": 1, "bbox": [5 * number, 0, 9, 9]} for number in range(2)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "red"}]}
    (root / "c" / "instances.json").write_text(json.dumps(content))
    assert {name: photo.things[0].left * 60 for name, photo in read_boxes(root).items()} == pytest.approx(
        {"a/0001.png": 0, "b/0001.png": 5}
    )
    (root / "c" / "instances.json").write_text(json.dumps(content).replace("a/0001", "0001").replace("b/0001", "0001"))
    with pytest.raises(InputError, match="names 0001.png, which may be .*0001.png or .*0001.png; name it with its folder"):
        read_boxes(root)


def test_images_lie_as_their_annotations_say(tmp_path):
    """A camera held upright writes lying pixels and a note; annotations may be of either. 16 bits are shown as task=images shows them."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[8:18, 5:25] = 255
    image, note = Image.fromarray(pixels), Image.Exif()
    note[0x0112] = 6  # held upright: a quarter turn to the right
    lying = one_photo(tmp_path / "lying", image, exif=note)
    stood = image.transpose(Image.Transpose.ROTATE_270)
    box = stood.convert("L").getbbox()
    upright = one_photo(tmp_path / "upright", image, (box[0], box[1], box[2] - box[0], box[3] - box[1]), 60, 40, exif=note)
    deep = one_photo(tmp_path / "deep", Image.fromarray((pixels[..., 0].astype(np.uint16) << 4) + 15))
    nearly = one_photo(
        tmp_path / "nearly", Image.fromarray(np.pad(pixels[:, :41], ((0, 0), (0, 1), (0, 0)))), height=40, width=42, exif=note
    )
    for folder in (lying, upright, deep, nearly):
        made = boxes.prepare(folder, 60, 1)
        ((thing,),), (shown,) = made.about["things"], made.images
        ys, xs = np.nonzero(shown[0] > 128)
        found = np.array([ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]) / 60
        np.testing.assert_allclose(found, thing[1:], atol=0.03)
    with pytest.raises(InputError, match="0001.png in .*other has 40 x 60 pixels, and 50 x 50 by its annotations; mend them"):
        list(boxes.prepare(one_photo(tmp_path / "other", image, height=50, width=50), 60, 1).images)


def test_annotations_as_they_come(tmp_path):
    """Captions beside COCO's boxes are of something else, a box without an area is no object, an image without a size is named."""
    folder = one_photo(tmp_path / "a", Image.new("RGB", (60, 40)))
    (folder / "captions.json").write_text('{"images": [], "annotations": [{"caption": "x"}]}')
    assert len(read_boxes(folder)["0001.png"].things) == 1
    with pytest.raises(InputError, match="has no box around any object"):
        read_boxes(one_photo(tmp_path / "b", Image.new("RGB", (60, 40)), box=(5, 8, 20, 0)))
    with pytest.raises(InputError, match="0001.png in .* has 0 x 0 pixels by its annotations; mend them"):
        read_boxes(one_photo(tmp_path / "c", Image.new("RGB", (60, 40)), height=0, width=0))


def test_classes_that_share_their_images_need_enough_together():
    both = [SimpleNamespace(name="helmet"), SimpleNamespace(name="vest")]
    tasks = SimpleNamespace(things=[both] * 6, shots=2, queries=5, of_classes=2)
    with pytest.raises(InputError, match="helmet, vest are in 6 images together, and an episode needs 7; lower task.shots"):
        boxes.BoxEpisodes(tasks, ["helmet", "vest"], [*range(6)])


def test_what_does_not_fit_is_said(tmp_path):
    found = photographs(tmp_path / "coco")
    root = write_coco(tmp_path / "coco", found)
    read = [*FEW, f"task.root={root}", f"task.split={root}/split.csv"]
    with pytest.raises(InputError, match="in the val split, task.ways=2 asks for more than the 1 classes"):
        build_run(compose_run(*read, "task.ways=2"))
    with pytest.raises(InputError, match="is in 6 images, and an episode may need 9"):
        build_run(compose_run(*read, "task.queries=7"))
    with pytest.raises(InputError, match="set task.grid to one of them"):
        build_run(compose_run(*read, "task.grid=5"))
    (root / "images" / "red0.png").unlink()
    with pytest.raises(InputError, match="names images/red0.png, which is not there"):
        read_boxes(root)
    (root / "instances.json").write_text('{"annotations": [{}], "images": [], "categories": []}')
    with pytest.raises(InputError, match="instances.json in .* cannot be read as COCO's annotations"):
        read_boxes(root)
    (root / "instances.json").unlink()
    with pytest.raises(InputError, match="has no box around any object; task.root must be a folder or a zip"):
        read_boxes(root)
    (root / "a.xml").write_text("<annotation>")
    with pytest.raises(InputError, match="a.xml in .* cannot be read as Pascal VOC's annotations"):
        read_boxes(root)
