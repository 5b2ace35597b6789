"""Images of any folder, zip or array file: read alike, decoded once, split by classes; and one sentence for each kind of bad input."""

import io
import json
import os
import shutil
import struct
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from innerloop.config import InputError
from innerloop.runs.build import build
from innerloop.runs.experiment import run
from innerloop.runs.rescore import rescore
from innerloop.tasks import archives, prepared
from innerloop.tasks.class_split import read_split
from innerloop.tasks.images import images as images_module
from innerloop.tasks.images.images import Images
from tests.conftest import DATA, TINY, compose_run
from tests.tiny_data import image_files, picture, write_csv, write_tree, write_zip

CALTECH = DATA / "caltech101" / "caltech100_32x32_30each.npz"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tasks_of(root, **changes) -> Images:
    counts = {"ways": 2, "shots": 1, "queries": 2}
    arguments = {
        "folders": None,
        "pool": False,
        "size": 8,
        "channels": 3,
        "split": None,
        "split_seed": 0,
        "memory_mb": 4000,
        "augment": None,
    }
    return Images(str(root), **arguments | counts | {f"train_{k}": v for k, v in counts.items()} | changes)


def pixels_of(tasks: Images, split="test") -> dict[str, np.ndarray]:
    classes = tasks.classes(split)
    return {name: classes.inputs[rows] for name, rows in zip(classes.names, classes.members, strict=True)}


def test_tree_zip_and_arrays_give_the_same(tmp_path):
    files = image_files()
    tree = tasks_of(write_tree(tmp_path / "tree", files))
    archive = tasks_of(write_zip(tmp_path / "images.zip", {f"a/b/{name}": content for name, content in files.items()}))
    pictures = [np.asarray(Image.open(io.BytesIO(content))) for _, content in sorted(files.items())]
    names = [f"class{c:02}" for c in range(20)]
    np.savez(tmp_path / "a.npz", images=np.stack(pictures).reshape(20, 4, 12, 16, 3), class_names=names)
    np.savez(tmp_path / "b.npz", images=np.stack(pictures), labels=np.repeat(range(20), 4), class_names=names)
    for other in (archive, tasks_of(tmp_path / "a.npz"), tasks_of(tmp_path / "b.npz")):
        for split in ("train", "val", "test"):
            here, there = pixels_of(tree, split), pixels_of(other, split)
            assert here.keys() == there.keys() and all(np.array_equal(here[name], there[name]) for name in here)
    assert [len(tree.parts[split]) for split in ("train", "val", "test")] == [13, 3, 4]
    assert tree.distribution("test").sample(np.random.default_rng(0)).query.x.shape == (4, 3, 8, 8)


def test_grey_at_another_size(tmp_path):
    tasks = tasks_of(write_tree(tmp_path, image_files()), channels=1, size=5)
    name = tasks.parts["test"][0]
    expected = Image.open(tmp_path / name / "image0.png").convert("L").resize((5, 5), Image.Resampling.LANCZOS)
    assert np.array_equal(pixels_of(tasks)[name][0, 0], np.asarray(expected))


def test_images_of_16_bits_and_of_palettes(tmp_path):
    """Scans have 16 bits; what Pillow makes of them is white."""
    deep, clear, unknown = BytesIO(), BytesIO(), BytesIO()
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(deep, "PNG")
    Image.fromarray(np.full((8, 8), 7, np.uint8)).convert("P").save(clear, "PNG", transparency=b"\x00\x80")
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(unknown, "TIFF")
    files = {"class00/image0.png": deep.getvalue(), "class00/image1.png": clear.getvalue()}
    tasks = tasks_of(write_tree(tmp_path, image_files() | files))
    assert tasks.images[0].max() == tasks.images[0].min() == 40000 // 256 and tasks.images[1].max() == 7
    write_tree(tmp_path, {"class00/image2.tiff": unknown.getvalue()})
    with pytest.raises(InputError, match="class00/image2.tiff in .* has 32 bits a pixel, of no known range; save it with 8 or 16"):
        tasks_of(tmp_path)


def test_the_split_is_drawn_once_and_kept(tmp_path):
    root = write_tree(tmp_path / "data", image_files())
    first = tasks_of(root).parts
    rows = (root / "data_split0.csv").read_text().splitlines()
    assert rows[0] == "class,split" and len(rows) == 21 and sorted(sum(first.values(), [])) == [f"class{c:02}" for c in range(20)]
    assert tasks_of(root).parts == first != tasks_of(root, split_seed=1).parts
    write_tree(root, image_files(classes=21))
    with pytest.raises(InputError, match="data_split0.csv does not name class 'class20'; give it a split there, or delete"):
        tasks_of(root)
    shutil.rmtree(root / "class20")
    shutil.rmtree(root / "class03")
    with pytest.raises(InputError, match="data_split0.csv names 'class03', which is not there; take it out, or delete the file"):
        tasks_of(root)


def test_folders_named_train_val_and_test_are_the_split(tmp_path):
    parts = {f"{part}/{name}": c for part, n in (("train", 6), ("val", 2), ("test", 3)) for name, c in image_files(n).items()}
    parts = {name.replace("class", name.partition("/")[0] + "_"): content for name, content in parts.items()}
    tasks = tasks_of(write_tree(tmp_path, parts))
    assert {part: len(names) for part, names in tasks.parts.items()} == {"train": 6, "val": 2, "test": 3}
    assert tasks.parts["val"] == ["val_00", "val_01"]
    write_tree(tmp_path, {"test/train_00/image.png": picture(1)})
    with pytest.raises(InputError, match="has class 'train_00' in test and in train, and few-shot classes are of one split alone"):
        tasks_of(tmp_path)


def test_a_csv_says_the_split_and_leaves_classes_out(tmp_path):
    root = write_tree(tmp_path / "data", image_files(8))
    rows = [("class", "images", "split"), *((f"class{c:02}", 4, s) for c, s in enumerate("train train val val test test".split()))]
    split = write_csv(tmp_path / "split.csv", [*rows, ("class06", 4, "")])
    tasks = tasks_of(root, split=str(split))
    assert tasks.parts == {"train": ["class00", "class01"], "val": ["class02", "class03"], "test": ["class04", "class05"]}
    for more, message in [
        ([("dog", 1, "train"), ("cat", 1, "test")], "task.split names 'dog' and 1 more, not to be found in .*data; mend the names"),
        ([("class07", 4, "dev")], "has class 'class07' in split 'dev'; write train, val, test or nothing"),
    ]:
        with pytest.raises(InputError, match=message):
            tasks_of(root, split=str(write_csv(tmp_path / "bad.csv", [*rows, *more])))
    with pytest.raises(InputError, match="must have the columns class and split"):
        tasks_of(root, split=str(write_csv(tmp_path / "bad.csv", [("name", "split"), ("a", "test")])))
    with pytest.raises(InputError, match="has no class for val"):
        tasks_of(root, split=str(write_csv(tmp_path / "bad.csv", [r for r in rows if r[2] != "val"])))


def test_decoded_once_and_again_when_the_images_change(tmp_path, monkeypatch):
    root = write_tree(tmp_path / "data", image_files())
    before, prepare = pixels_of(tasks_of(root)), images_module.prepare
    monkeypatch.setattr(images_module, "prepare", None)
    assert pixels_of(tasks_of(root)).keys() == before.keys()
    monkeypatch.setattr(images_module, "prepare", prepare)
    name = next(iter(before))
    (root / name / "image0.png").write_bytes(picture(999, side=30))
    after = pixels_of(tasks_of(root))
    assert not np.array_equal(after[name][0], before[name][0]) and np.array_equal(after[name][1:], before[name][1:])


def test_photos_are_upright_and_what_is_transparent_is_white(tmp_path):
    turned, clear = BytesIO(), BytesIO()
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255  # white above black
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by 90 degrees
    Image.fromarray(pixels).save(turned, "PNG", exif=exif)
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(clear, "PNG")
    files = {"class00/image0.png": turned.getvalue(), "class00/image1.png": clear.getvalue()}
    images = tasks_of(write_tree(tmp_path, image_files() | files)).images
    assert images[0][:, :, 4:].min() == 255 and images[0][:, :, :4].max() == 0 and images[1].min() == 255


def test_links_are_followed_once(tmp_path):
    elsewhere = write_tree(tmp_path / "elsewhere", image_files(3))
    root = write_tree(tmp_path / "data", {f"x{name}": content for name, content in image_files(17).items()})
    for name in ("class00", "class01", "class02"):
        (root / name).symlink_to(elsewhere / name)
    (root / "class00" / "round").symlink_to(root)
    assert sum(map(len, tasks_of(root).parts.values())) == 20
    (root / "xclass03" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match="gone.png cannot be read .No such file or directory.; mend it or delete it"):
        tasks_of(root)


def test_a_run_keeps_to_the_split_that_it_was_trained_on(tmp_path):
    """Edited in the file beside the data, test classes would be those of training."""
    root = write_tree(tmp_path / "data", image_files())
    overrides = [
        "task=images",
        f"task.root={root}",
        "task.size=8",
        "task.ways=2",
        "task.queries=2",
        "model.filters=4",
        "model.pool=stride",
        *TINY,
    ]
    run(compose_run(*overrides), tmp_path / "run")
    drawn = root / "data_split0.csv"
    assert read_split(str(tmp_path / "run" / "split.csv")) == read_split(str(drawn))
    rows = drawn.read_text()
    drawn.write_text(rows.replace("test", "?").replace("train", "test").replace("?", "train"))
    with pytest.raises(InputError, match="'class..' would be tested on, and .*run was trained on it .*split.csv has the split.; put"):
        rescore(tmp_path / "run", [])
    (tmp_path / "run" / "results.json").unlink()
    with pytest.raises(InputError, match="train, val and test are not those that this run began with, which are in .*split.csv"):
        run(compose_run(*overrides), tmp_path / "run")
    drawn.write_text(rows)
    run(compose_run(*overrides), tmp_path / "run")
    assert rescore(tmp_path / "run", ["task.shots=2"])[0]["shots"] == 2


def test_a_split_is_drawn_of_three_classes_or_more(tmp_path):
    for classes in (3, 4, 5):
        parts = tasks_of(write_tree(tmp_path / str(classes), image_files(classes))).parts
        assert min(map(len, parts.values())) == 1 and sum(map(len, parts.values())) == classes
    with pytest.raises(InputError, match="has 2 classes, and train, val and test need one each at least; bring more, or give task.split"):
        tasks_of(write_tree(tmp_path / "2", image_files(2)))
    assert not (tmp_path / "2" / "2_split0.csv").exists()


def test_a_class_is_left_out_of_the_drawn_split(tmp_path):
    root = write_tree(tmp_path / "data", image_files())
    tasks_of(root)
    drawn = root / "data_split0.csv"
    drawn.write_text(drawn.read_text().replace("class07,train", "class07,"))
    assert sum(map(len, tasks_of(root).parts.values())) == 19
    drawn.write_text(drawn.read_text() + "class07,test\nclass08,test\n")
    with pytest.raises(InputError, match="data_split0.csv has class 'class07' in split '' and in 'test'; leave it in one of them"):
        tasks_of(root)


def test_what_a_killed_process_left_does_not_fill_the_disk(tmp_path, monkeypatch):
    root = write_tree(tmp_path / "data", image_files())
    partial = root / "data_8x8_rgb.prepared.partial"
    partial.write_bytes(bytes(15000))
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000 if partial.exists() else 16000))
    assert len(tasks_of(root).images) == 80


def test_large_sets_stay_on_the_disk(tmp_path):
    root = write_tree(tmp_path / "data", image_files())
    whole, mapped = tasks_of(root), tasks_of(root, memory_mb=0.001)
    assert isinstance(mapped.images, np.memmap) and not isinstance(whole.images, np.memmap)
    assert np.array_equal(whole.images, mapped.images)
    file = root / "data_8x8_rgb.prepared"
    os.truncate(file, file.stat().st_size - 100)
    assert np.array_equal(tasks_of(root, memory_mb=0.001).images, whole.images)  # cut short, so decoded again


def test_augmented_in_training_alone(tmp_path):
    root = write_tree(tmp_path / "data", image_files())
    cfg = compose_run("task=images", f"task.root={root}", "task.size=8", "task.ways=2", "task.queries=2")
    tasks = build(cfg.task)
    plain, train = build(cfg.task, augment=None).distribution("train"), tasks.distribution("train")
    drawn = [[d.sample(np.random.default_rng(i)).query.x for i in range(8)] for d in (plain, train)]
    flipped = [torch.equal(a, b.flip(-1)) for one, two in zip(*drawn, strict=True) for a, b in zip(one, two, strict=True)]
    kept = [torch.equal(a, b) for one, two in zip(*drawn, strict=True) for a, b in zip(one, two, strict=True)]
    assert all(f or k for f, k in zip(flipped, kept, strict=True)) and 0.2 < np.mean(flipped) < 0.8
    assert not tasks.distribution("val").augment and not tasks.distribution("test").augment


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"class05/image1.png": b"\x89PNG\r\n\x1a\nrubbish"},
            "class05/image1.png in .* cannot be read as an image; replace it or delete it",
        ),
        ({"class05/image1.png": picture(1)[:-40]}, "class05/image1.png in .* cannot be read as an image"),
        ({"stray.png": picture(1)}, "has images beside the folders of its classes .stray.png.; put them into one, take them out, or say"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_files_are_named_and_nothing_is_left(files, message, packed, tmp_path):
    files = image_files() | files
    root = write_zip(tmp_path / "data.zip", files) if packed else write_tree(tmp_path / "data", files)
    with pytest.raises(InputError, match=message) as refused:
        tasks_of(root)
    assert "\n" not in str(refused.value)
    assert not [*tmp_path.rglob("*.prepared"), *tmp_path.rglob("*.partial")]


def test_bad_zips(tmp_path, monkeypatch):
    whole = write_zip(tmp_path / "data.zip", image_files())
    (tmp_path / "cut.zip").write_bytes(whole.read_bytes()[:-500])
    with pytest.raises(InputError, match="cut.zip is not a whole zip file"):
        tasks_of(tmp_path / "cut.zip")
    with pytest.raises(InputError, match=r"evil.zip has a member that points outside of it, '../class00/x.png'"):
        tasks_of(write_zip(tmp_path / "evil.zip", image_files() | {"../class00/x.png": b""}))
    monkeypatch.setattr(archives, "MOST_BYTES", 10**6)
    with pytest.raises(InputError, match=r"class00/big.png in .*bomb.zip unpacks to 3 MB, which no example has"):
        tasks_of(write_zip(tmp_path / "bomb.zip", image_files() | {"class00/big.png": bytes(3_000_000)}))
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"the prepared images take 0 MB and .* has 0 MB left; make room, or lower task.size"):
        tasks_of(whole)


def test_the_folder_of_a_zip_stands_for_it(tmp_path):
    (tmp_path / "data").mkdir()
    write_zip(tmp_path / "data" / "images.zip", image_files())
    assert len(tasks_of(tmp_path / "data").parts["train"]) == 13


def test_other_bad_input(tmp_path):
    beside = {f"all/{name}": content for name, content in image_files(2).items()} | {"all/stray.png": picture(1)}
    with pytest.raises(InputError, match=r"has images beside the folders of its classes \(all/stray.png\); put them into one"):
        tasks_of(write_tree(tmp_path / "beside", beside))
    with pytest.raises(
        InputError, match="task.root=.*nowhere is not there; it must be a folder with a folder for each class, a zip of one"
    ):
        tasks_of(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has images of 0 classes in folders of their own"):
        tasks_of(write_tree(tmp_path / "empty", {"a/readme.txt": b"", "b/.hidden.png": b""}))
    with pytest.raises(InputError, match="task.channels must be 3 .colour. or 1 .grey., got 2"):
        tasks_of(tmp_path, channels=2)
    np.savez(tmp_path / "floats.npz", images=np.zeros((3, 4, 8, 8)))
    with pytest.raises(InputError, match=r"floats.npz cannot be read as images and their classes \(images must be uint8"):
        tasks_of(tmp_path / "floats.npz")
    images = np.zeros((12, 8, 8, 3), np.uint8)
    for arrays, message in [
        ({}, "it has no labels, and no axis of classes before that of images"),
        ({"labels": np.arange(12) // 3, "class_names": ["a", "b", "b", "c"]}, "it has 4 classes and 3 names of classes"),
        ({"labels": np.arange(12) // 3, "class_names": list("abcde")}, "it has 4 classes and 5 names of classes"),
    ]:
        np.savez(tmp_path / "doubtful.npz", images=images, **arrays)
        with pytest.raises(InputError, match=message):
            tasks_of(tmp_path / "doubtful.npz")
    np.savez(tmp_path / "typo.npz", images=images, labels=np.arange(12) // 3, split=["Train", "val", "test", "test"])
    with pytest.raises(InputError, match="typo.npz has class '0' in split 'Train'; write train, val, test or nothing"):
        tasks_of(tmp_path / "typo.npz")
    files = {f"{part}/{name}": content for part in ("train", "valid", "test") for name, content in image_files(3).items()}
    with pytest.raises(InputError, match="has valid beside folders of splits; name these train, val and test"):
        tasks_of(write_tree(tmp_path / "valid", files))
    root = write_tree(tmp_path / "one", image_files() | {"class20/only.png": picture(1)})
    with pytest.raises(InputError, match="class 'class20' has 1 examples but an episode needs shots . queries = 3; lower task.shots"):
        for split in ("train", "val", "test"):
            tasks_of(root).distribution(split)


@pytest.mark.skipif(not CALTECH.exists(), reason="needs Caltech-101 in INNERLOOP_DATA")
def test_nearest_mean_on_caltech_is_what_it_should_be(tmp_path):
    """35.0 % by another program, 5-way 1-shot on 32x32 pixels (300 episodes): images, classes and splits belong together."""
    run(
        compose_run("task=images", f"task.root={CALTECH}", "task.size=32", "algo=nearest_mean", *TINY, "test_episodes=300"),
        tmp_path / "run",
    )
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["value"] == pytest.approx(0.35, abs=0.02)
    assert Path(tmp_path / "cache").exists()  # the data are read-only
    assert results["task"] == "images" and tasks_of(CALTECH, size=32, split="caltech101").name == "caltech101"


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("mini_imagenet", (64, 16, 20)),
        ("tiered_imagenet", (351, 97, 160)),
        ("cifar_fs", (64, 16, 20)),
        ("fc100", (60, 20, 20)),
        ("cub", (100, 50, 50)),
        ("caltech101", (64, 16, 20)),
    ],
)
def test_published_splits(name, sizes):
    split = read_split(name)
    assert tuple(list(split.values()).count(part) for part in ("train", "val", "test")) == sizes
    if name in ("cifar_fs", "fc100"):
        assert split.keys() == read_split("cifar_fs").keys() and len(split) == 100
    if name == "cub":  # odd numbers, and the others in turn
        assert all(split[c] == ("train" if int(c[:3]) % 2 else "val" if int(c[:3]) % 4 == 2 else "test") for c in split)


def png(pixels, **more):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", **more)
    return content.getvalue()


@pytest.mark.parametrize("bits", [7, 8, 10, 12, 14, 16])
def test_deep_images_are_as_bright_as_they_were_taken(bits, tmp_path, caplog):
    """Of cameras and scanners that use some of 16 bits: white is the most that the set uses."""
    caplog.set_level("INFO")
    shades = np.linspace(0, 2**bits - 1, 80).round().astype(np.uint16)
    files = image_files() | {f"class{i // 4:02}/image{i % 4}.png": png(np.full((8, 8), shade)) for i, shade in enumerate(shades)}
    tasks = tasks_of(write_tree(tmp_path / "deep", files), channels=1)
    found = np.array([tasks.images[rows].mean((1, 2, 3)) for rows in tasks.rows.values()]).ravel()
    np.testing.assert_allclose(found, np.linspace(0, 255 if bits > 7 else 127, 80), atol=1.01)  # no brighter than 8 bits would be
    assert [message for message in caplog.messages if "use" in message] == (
        [] if bits == 16 else [f"the 16-bit images in {tmp_path / 'deep'} use {max(bits, 8)} bits: white is {2 ** max(bits, 8) - 1}"]
    )


def test_a_camera_that_writes_nonsense_takes_pictures_all_the_same(tmp_path, monkeypatch):
    """EXIF data of a wrong type make Pillow raise struct.error, and more."""
    pixels, exif = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8), Image.Exif()
    exif[0x0112] = 6
    files = image_files() | {"class00/image0.png": png(pixels, exif=exif)}
    root = write_tree(tmp_path / "odd", files)

    def broken(image):
        raise struct.error("required argument is not an integer")

    monkeypatch.setattr("innerloop.tasks.images.seen.ImageOps.exif_transpose", broken)
    tasks = tasks_of(root)
    np.testing.assert_array_equal(tasks.images[tasks.rows["class00"][0]], pixels.transpose(2, 0, 1))


def test_a_set_that_splits_images_is_pooled(tmp_path):
    """The same classes in train and test, as most sets come, beside icons and lists of files."""
    files = {f"{part}/{name}": picture(i) for part in ("train", "test") for i, name in enumerate(image_files(each=2))}
    files |= {"icons/a/1.png": picture(1), "lists/b/1.png": picture(2), "cover.png": picture(3), "read.me": b"x"}
    root = write_tree(tmp_path / "set", files)
    with pytest.raises(InputError, match=r"has images beside the folders of its classes .cover.png.; put them into one, .* task.folders="):
        tasks_of(root)
    with pytest.raises(
        InputError, match="has class 'class00' in test and in train, .*; task.pool=true takes all images of a class together"
    ):
        tasks_of(root, folders=["train", "test"])
    tasks = tasks_of(root, folders=["train", "test"], pool=True)
    assert {len(rows) for rows in tasks.rows.values()} == {4} and len(tasks.rows) == 20
    assert [len(tasks.parts[part]) for part in ("train", "val", "test")] == [13, 3, 4]
    assert (
        tasks_of(root, folders=["train", "test"], pool=True).parts == tasks.parts and (root / "set_test_train_pooled_split0.csv").exists()
    )
    alone = tasks_of(root, folders=["train"], pool=False)
    assert {len(rows) for rows in alone.rows.values()} == {2} and sorted(alone.rows) == sorted(tasks.rows)
    packed = tasks_of(
        write_zip(tmp_path / "set.zip", {f"set/{name}": content for name, content in files.items()}), folders=["train", "test"], pool=True
    )
    assert {len(rows) for rows in packed.rows.values()} == {4}
    with pytest.raises(InputError, match="task.folders names trian, and .* has none of that name; it has icons, lists, test, train"):
        tasks_of(root, folders=["trian"])
    with pytest.raises(InputError, match="task.folders must be a list of names of folders in task.root, got 'train'"):
        tasks_of(root, folders="train")


def test_a_refused_run_leaves_nothing_in_the_folder(tmp_path):
    root = write_tree(tmp_path / "data", image_files() | {"class00/image0.png": b"no image"})
    before = sorted(path.name for path in root.rglob("*"))
    with pytest.raises(InputError, match="cannot be read as an image"):
        tasks_of(root)
    assert sorted(path.name for path in root.rglob("*")) == before
    (root / "class00" / "image0.png").unlink()
    tasks_of(root, queries=1)
    assert not list(root.rglob("*.lock"))


def test_an_array_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", images=np.zeros((6, 4, 12, 12), np.uint8))
    monkeypatch.setattr("innerloop.tasks.images.image_files.os.sysconf", lambda name: 10)
    with pytest.raises(InputError, match="a.npz unpacks to 0 GB, and this machine has 0; bring a folder or a zip"):
        tasks_of(tmp_path / "a.npz")
