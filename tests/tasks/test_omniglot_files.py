"""Finding, downloading, checking and preparing Omniglot, on three synthetic characters that stand for the 1623."""

import hashlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerloop.config import InputError
from innerloop.tasks.images import omniglot_cache, omniglot_files
from innerloop.tasks.images.omniglot_cache import FILE, load_characters

COUNTS = {"images_background": 2, "images_evaluation": 1}
HELD = {"images_background": ["Angelic/character02", "Angelic/character01"], "images_evaluation": ["Aurek/character01"]}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(omniglot_files, "CHARACTERS", COUNTS)
    monkeypatch.setattr(omniglot_cache, "CHARACTERS", COUNTS)
    monkeypatch.setattr(omniglot_files, "BASE_URL", "http://127.0.0.1:9/")  # nothing in these tests reaches the network
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with both zips."""
    for half in COUNTS:
        write_zip(tmp_path / "root", half)
    return tmp_path / "root"


def png(stroke: int, side: int = 105) -> bytes:
    image = Image.new("1", (side, side), 1)
    image.paste(0, (stroke, 10, stroke + 20, 60))
    content = BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def write_zip(root: Path, half: str, drop: str = "", replace: tuple[str, bytes] = ("", b""), add: tuple[str, ...] = ()) -> None:
    """Writes a half, without the members whose name contains `drop`, with another content for those that contain replace[0]."""
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / f"{half}.zip", "w") as archive:
        for number, character in enumerate(HELD[half]):
            for person in range(1, 21):
                name = f"{half}/{character}/{number:04d}_{person:02d}.png"
                content = replace[1] if replace[0] and replace[0] in name else png(2 * person)
                if not drop or drop not in name:
                    archive.writestr(name, content)
        for name in add:
            archive.writestr(name, b"stray")


def extract(root: Path) -> None:
    for half in COUNTS:
        with zipfile.ZipFile(root / f"{half}.zip") as archive:
            archive.extractall(root)
        (root / f"{half}.zip").unlink()


def one_sentence(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 400
    return text


def test_prepared_images_are_sorted_inverted_and_small(root: Path) -> None:
    characters = load_characters(root)
    assert characters.names == ["Angelic/character01", "Angelic/character02", "Aurek/character01"]
    assert characters.images.shape == (60, 1, 28, 28) and characters.images.dtype == np.uint8
    assert characters.images[0, 0, 8, 3] > 250 and characters.images[0, 0, -1, -1] == 0
    ink_centre = (characters.images[:20] * np.arange(28.0)).sum((1, 2, 3)) / characters.images[:20].sum((1, 2, 3))
    assert (np.diff(ink_centre) > 0).all()  # the drawings are in the order of their names


def test_folders_give_what_zips_give_and_win_over_them(root: Path) -> None:
    from_zips = load_characters(root)
    extract(root)
    (root / FILE).unlink()
    (root / "images_background.zip").write_bytes(b"not looked at")
    from_folders = load_characters(root)
    assert from_folders.names == from_zips.names and np.array_equal(from_folders.images, from_zips.images)


def test_stray_files_are_passed_over(root: Path) -> None:
    stray = ("images_background/.DS_Store", "__MACOSX/images_background/Angelic/character01/._0001_01.png", "images_background/readme.txt")
    write_zip(root, "images_background", add=stray)
    assert len(load_characters(root).names) == 3


def test_relative_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert len(load_characters(Path("root")).names) == 3


def test_read_only_root_is_left_alone(root: Path, tmp_path: Path) -> None:
    root.chmod(0o555)
    try:
        load_characters(root)
        assert sorted(path.name for path in root.iterdir()) == ["images_background.zip", "images_evaluation.zip"]
        assert len(list((tmp_path / "user_cache").rglob(FILE))) == 1
    finally:
        root.chmod(0o755)


def no_preparing(*_: object) -> None:
    raise AssertionError("prepared again")


def test_prepared_file_serves_again_even_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_characters(root)
    monkeypatch.setattr(omniglot_cache, "prepare", no_preparing)
    assert np.array_equal(load_characters(root).images, first.images)
    for half in COUNTS:
        (root / f"{half}.zip").unlink()
    assert np.array_equal(load_characters(root).images, first.images)


def overwrite_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(range(64)))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [overwrite_middle, truncate, empty])
def test_damaged_prepared_file_is_prepared_again(root: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture) -> None:
    good = load_characters(root)
    intact = (root / FILE).read_bytes()
    damage(root / FILE)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(load_characters(root).images, good.images)
    assert [record.name for record in caplog.records] == ["innerloop.tasks.prepared"]
    assert (root / FILE).read_bytes() == intact


def test_changed_sources_are_prepared_again(root: Path) -> None:
    before = load_characters(root)
    write_zip(root, "images_evaluation", replace=("0000_01", png(80)))
    after = load_characters(root)
    changed = (before.images != after.images).any((1, 2, 3))
    assert changed.nonzero()[0].tolist() == [40]


def test_changed_drawing_in_a_folder_is_noticed(root: Path) -> None:
    extract(root)
    before = load_characters(root)
    (root / "images_evaluation/Aurek/character01/0000_01.png").write_bytes(png(80))
    assert not np.array_equal(load_characters(root).images, before.images)


START = """
import sys
from pathlib import Path
from innerloop.tasks.images import omniglot_cache, omniglot_files
omniglot_cache.CHARACTERS = omniglot_files.CHARACTERS = {"images_background": 2, "images_evaluation": 1}
prepare = omniglot_cache.prepare
omniglot_cache.prepare = lambda sources: print("prepared") or prepare(sources)
print(omniglot_cache.load_characters(Path(sys.argv[1])).images.sum())
"""


def test_two_processes_at_once_prepare_once(root: Path) -> None:
    command = [sys.executable, "-c", START, str(root)]
    starts = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [start.communicate(timeout=60) for start in starts]
    assert [start.returncode for start in starts] == [0, 0], ends
    words = sorted(word for out, _ in ends for word in out.split())
    assert len(words) == 3 and words.count("prepared") == 1 and words[0] == words[1]
    assert not list(root.glob("*.partial"))


def test_zip_cut_short(root: Path) -> None:
    truncate(root / "images_evaluation.zip")
    with pytest.raises(InputError, match=r"images_evaluation.zip is not a whole zip file .*; delete this file") as error:
        load_characters(root)
    one_sentence(error)
    assert not (root / FILE).exists()


def test_zip_damaged_inside(root: Path) -> None:
    path = root / "images_background.zip"
    with path.open("r+b") as file:
        file.seek(2000)
        file.write(bytes(64))
    with pytest.raises(InputError, match=r"png in .*images_background.zip cannot be read as an image; delete this file") as error:
        load_characters(root)
    one_sentence(error)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"replace": ("character01/0001_07", b"\x89PNG\r\n\x1a\nrubbish")}, r"0001_07.png in .* cannot be read as an image"),
        ({"replace": ("character01/0001_07", png(3)[:-30])}, r"Angelic/character01/0001_07.png in .* cannot be read as an image"),
        ({"replace": ("character01/0001_07", png(3, side=28))}, r"0001_07.png in .* is 28x28 pixels where 105x105 are expected"),
        ({"drop": "character01/"}, r"background.zip holds 1 characters where 2 are expected \(Angelic/character01 is missing\)"),
        ({"drop": "Angelic"}, r"background.zip holds 0 characters where 2 are expected; delete"),
        ({"drop": "character01/0001_20"}, r"background.zip holds 19 drawings of Angelic/character01 where 20 are expected"),
        ({"add": ("../escaped.png",)}, r"background.zip has a member that points outside of it, '../escaped.png'"),
        ({"add": ("/escaped.png",)}, r"background.zip has a member that points outside of it, '/escaped.png'"),
        ({"add": ("a\\..\\..\\escaped.png",)}, r"background.zip has a member that points outside of it"),
        ({"add": ("C:\\escaped.png",)}, r"background.zip has a member that points outside of it"),
    ],
)
def test_zip_with_the_wrong_content(root: Path, change: dict[str, tuple[str, ...]], expected: str) -> None:
    write_zip(root, "images_background", **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=expected) as error:
        load_characters(root)
    assert "; delete this file and start again" in one_sentence(error)
    assert not (root / FILE).exists()


def test_folder_with_the_wrong_content(root: Path) -> None:
    extract(root)
    (root / "images_evaluation/Aurek/character01/0000_04.png").unlink()
    with pytest.raises(InputError, match=r"images_evaluation holds 19 drawings of Aurek/character01 .*delete this folder") as error:
        load_characters(root)
    one_sentence(error)


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="task.root must be a folder"):
        load_characters(tmp_path / "file")


@pytest.fixture
def server(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serves the zips of `root` as the official ones."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=web.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setattr(omniglot_files, "BASE_URL", f"http://127.0.0.1:{web.server_port}/")
    monkeypatch.setattr(omniglot_files, "MD5", {half: hashlib.md5((root / f"{half}.zip").read_bytes()).hexdigest() for half in COUNTS})
    yield root
    web.shutdown()
    thread.join()
    web.server_close()


def test_download_into_a_new_folder(server: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    new = tmp_path / "some" / "where"
    assert np.array_equal(load_characters(new).images, load_characters(server).images)
    assert (new / "images_evaluation.zip").read_bytes() == (server / "images_evaluation.zip").read_bytes()
    assert not caplog.records


def test_download_of_the_missing_half_only(server: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    write_zip(own, "images_background", replace=("0001_01", png(80)))  # another md5 than the official one
    kept = (own / "images_background.zip").read_bytes()
    assert len(load_characters(own).names) == 3
    assert (own / "images_background.zip").read_bytes() == kept


def test_download_with_the_wrong_md5(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(omniglot_files, "MD5", {half: "0" * 32 for half in COUNTS})
    with pytest.raises(InputError, match=r"could not download http.*background.zip \(its md5 is not the official one\); put ") as error:
        load_characters(tmp_path / "new")
    one_sentence(error)
    assert not list((tmp_path / "new").glob("*.zip"))


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        monkeypatch.setattr(omniglot_files, "BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/")
        with pytest.raises(InputError, match=r"could not download http://127.*images_background.zip \(ConnectionError\); put ") as error:
            load_characters(tmp_path / "new")
    assert f"images_background.zip and images_evaluation.zip in the folder {tmp_path / 'new'} (task.root)" in one_sentence(error)


def test_no_download_into_a_read_only_root(tmp_path: Path) -> None:
    (tmp_path / "fixed").mkdir(mode=0o555)
    with pytest.raises(InputError, match="that folder cannot be written to"):
        load_characters(tmp_path / "fixed")
    shutil.rmtree(tmp_path / "fixed")
