"""Recordings of any folder become spectrograms; an episode is of one speaker, or of words that were not heard before."""

from io import BytesIO

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from innerloop.config import InputError
from innerloop.runs.experiment import run
from innerloop.tasks.sounds import spoken
from innerloop.tasks.sounds.log_mel import log_mel, mel_filters, read_wav
from innerloop.tasks.sounds.spoken import Spoken
from tests.conftest import DATA, TINY, compose_run
from tests.tiny_data import wav, wav_files, write_csv, write_tree, write_zip

FSDD = DATA / "fsdd" / "recordings.zip"
COUNTS = {"ways": 2, "shots": 1, "queries": 2, "train_ways": 2, "train_shots": 1, "train_queries": 2}
SPEAKERS = {"train": ["ann", "bob"], "val": ["cem", "dan"], "test": ["eva", "fay"]}
WORDS = {"train": ["word0", "word1"], "val": ["word2", "word3"], "test": ["word4", "word5"]}


def tasks_of(root, **changes):
    return Spoken(
        str(root),
        **{"table": None, "columns": None, "unseen": "speaker", "split": SPEAKERS, "rate": 8000, "seconds": 0.1, "mels": 16}
        | COUNTS
        | changes,
    )


@pytest.fixture
def root(tmp_path):
    return write_tree(tmp_path / "wavs", wav_files())


def test_an_episode_is_of_one_unseen_speaker(root):
    tasks = tasks_of(root)
    test = tasks.classes("test")
    assert set(test.groups) == {"eva", "fay"} and set(test.names) == {f"word{w}/{s}" for w in range(6) for s in ("eva", "fay")}
    assert all(name.endswith(f"/{group}") for name, group in zip(test.names, test.groups, strict=True))
    speaker = {row: r.speaker for row, r in enumerate(tasks.recordings)}
    assert {speaker[row] for rows in test.members for row in rows} == {"eva", "fay"} and all(len(rows) == 4 for rows in test.members)
    support, _ = tasks.distribution("test").sample(np.random.default_rng(0))
    assert support.x.shape == (2, *tasks.input_shape) == (2, 1, 16, 7) and support.x.dtype == torch.float32


def test_unseen_words_are_of_any_speaker(root):
    tasks = tasks_of(root, unseen="class", split=WORDS)
    test = tasks.classes("test")
    assert test.names == ["word4", "word5"] and test.groups is None and [len(rows) for rows in test.members] == [24, 24]


def test_zip_and_table_say_the_same(root, tmp_path):
    files = wav_files()
    zipped = tasks_of(write_zip(tmp_path / "wavs.zip", {f"deep/{name}": content for name, content in files.items()}))
    renamed = {f"{i}.wav": content for i, content in enumerate(files.values())}
    rows = [("file", "class", "speaker"), *((f"{i}.wav", *name.split("_")[:2]) for i, name in enumerate(files))]
    table = write_csv(tmp_path / "table.csv", rows)
    listed = tasks_of(write_tree(tmp_path / "renamed", renamed | {"other.wav": b"not looked at"}), table=str(table))
    expected = tasks_of(root).classes("val")
    for tasks in (zipped, listed):
        found = tasks.classes("val")
        assert found.names == expected.names
        sums = [[sorted(c.inputs[rows].sum((1, 2, 3)).round(2).tolist()) for rows in c.members] for c in (found, expected)]
        assert sums[0] == sums[1]


def test_a_tone_is_where_it_should_be():
    """The loudest band is the one whose triangle is highest there; each recording has mean 0 and deviation 1."""
    filters = mel_filters(8000, 256, 32)
    assert filters.shape == (32, 129) and (filters >= 0).all() and (filters.max(1).values > 0.3).all()
    for pitch in (500, 1000, 3000):
        wave = torch.sin(2 * torch.pi * pitch * torch.arange(8000) / 8000)
        image = log_mel(wave, 8000, 32)[0]
        assert image.mean(1).flip(0).argmax() == filters[:, round(pitch / 8000 * 256)].argmax()
        assert abs(image.mean()) < 1e-5 and abs(image.std() - 1) < 1e-4
    silence = log_mel(torch.zeros(8000), 8000, 32)
    assert torch.isfinite(silence).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("channels", [1, 2])
def test_all_kinds_of_wav_sound_the_same(kind, channels):
    wave = 0.5 * np.sin(np.arange(800) / 5)
    scale, middle = {np.uint8: (127, 128), np.int16: (32767, 0), np.int32: (2**31 - 1, 0), np.float32: (1, 0)}[kind]
    content = BytesIO()
    wavfile.write(content, 8000, np.repeat((wave * scale + middle).astype(kind)[:, None], channels, 1))
    read = read_wav("a.wav", content.getvalue(), 8000, 1000)
    assert read.dtype == np.float32 and read[:800] == pytest.approx(wave, abs=0.02) and (read[800:] == 0).all()


def test_longer_ones_are_cut_and_shorter_ones_filled(root):
    assert tasks_of(root, seconds=0.05).input_shape == (1, 16, 4) and tasks_of(root, seconds=0.2).input_shape == (1, 16, 13)


def no_numbers() -> bytes:
    file = BytesIO()
    wavfile.write(file, 8000, np.full(100, np.nan, np.float32))
    return file.getvalue()


def test_recordings_are_decoded_once(root, monkeypatch):
    """And again where a file changed, or another length is asked for."""
    first, read = tasks_of(root), []
    monkeypatch.setattr(spoken, "read_wav", lambda *arguments: read.append(arguments) or read_wav(*arguments))
    assert np.array_equal(tasks_of(root).inputs, first.inputs) and not read
    assert tasks_of(root, seconds=0.3).inputs.shape != first.inputs.shape and read
    read.clear()
    (root / "word0_ann_0.wav").write_bytes(wav(900, 0))
    assert not np.array_equal(tasks_of(root).inputs, first.inputs) and read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            wav(500, 0, rate=16000),
            "word0_ann_0.wav in .* has 16000 samples a second and task.rate=8000; set task.rate, or convert the file",
        ),
        (wav(500, 0, seconds=0), "word0_ann_0.wav in .* is of zero length; leave it out"),
        (wav(500, 0)[:30], "word0_ann_0.wav in .* cannot be read as a .wav file; replace it or leave it out"),
        (no_numbers(), "word0_ann_0.wav in .* has samples that are no numbers"),
        (wav(500, 0)[:-100], "word0_ann_0.wav in .* cannot be read as a .wav file; replace it or leave it out"),
        (b"no wav", "word0_ann_0.wav in .* cannot be read as a .wav file"),
    ],
)
def test_bad_recordings_are_named(content, message, root):
    (root / "word0_ann_0.wav").write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        tasks_of(root)
    assert "\n" not in str(refused.value)


def test_the_split_may_be_a_file(root, tmp_path):
    rows = [("class", "split"), *((speaker, split) for split, speakers in SPEAKERS.items() for speaker in speakers)]
    assert tasks_of(root, split=str(write_csv(tmp_path / "split.csv", rows))).parts == tasks_of(root).parts == SPEAKERS


def test_other_bad_input(root, tmp_path):
    with pytest.raises(InputError, match="task.root=.*nowhere is not there; it must be a folder or a zip of .wav files"):
        tasks_of(tmp_path / "nowhere")
    archive = write_zip(tmp_path / "damaged.zip", wav_files())
    content = bytearray(archive.read_bytes())
    content[500] ^= 1  # a sample of the first recording
    archive.write_bytes(content)
    with pytest.raises(InputError, match="word0_ann_0.wav in .*damaged.zip cannot be read .Bad CRC-32.*; replace it or delete it"):
        tasks_of(archive)
    with pytest.raises(InputError, match="task.seconds=0.001 is shorter than a spectrum, 0.032; raise it"):
        tasks_of(root, seconds=0.001)
    with pytest.raises(InputError, match="task.split has class 'eva' in split 'val' and in 'test'; leave it in one of them"):
        tasks_of(root, split=SPEAKERS | {"val": ["eva"], "test": ["eva"]})
    with pytest.raises(InputError, match=r"task.split=None must be \{train: \[...\], .*, or a CSV with the columns class and split"):
        tasks_of(root, split=None)
    with pytest.raises(InputError, match="has no files named class_speaker_index.wav; name a table"):
        tasks_of(write_tree(tmp_path / "other", {"a.wav": b""}))
    with pytest.raises(InputError, match="task.split names 'zoe', not to be found in"):
        tasks_of(root, split=SPEAKERS | {"test": ["zoe"]})
    with pytest.raises(InputError, match="class 'word./eva' and 11 more .* has 4 examples but an episode needs shots . queries = 5"):
        tasks_of(root, shots=3).distribution("test")
    for rows, message in [
        ([("file", "word"), ("a", "b")], "must have the columns file, class and speaker"),
        ([("file", "class", "speaker"), ("gone.wav", "a", "b")], "names gone.wav, which is not in .*wavs; mend the name or delete the row"),
        ([("file", "class", "speaker"), *2 * [("word0_ann_0.wav", "a", "b")]], "names word0_ann_0.wav twice; delete one of its rows"),
        ([("file", "class", "speaker"), ("word0_ann_0.wav", " ", "b")], "the class in line 2 of .* has no text; fill it in or delete it"),
    ]:
        with pytest.raises(InputError, match=message):
            tasks_of(root, table=str(write_csv(tmp_path / "table.csv", rows)))


@pytest.mark.skipif(not FSDD.exists(), reason=f"no recordings at {FSDD}; set INNERLOOP_DATA")
def test_nearest_mean_on_spoken_digits(tmp_path):
    """Far above the 10 % of chance: digits and recordings belong together."""
    results = run(compose_run("task=spoken", f"task.root={FSDD}", "algo=nearest_mean", *TINY, "test_episodes=100"), tmp_path)
    assert results["ways"] == 10 and results["value"] == pytest.approx(0.455, abs=0.05)


def test_the_columns_of_a_table_may_have_names_of_their_own(root, tmp_path):
    rows = [("path", "word", "voice"), *((name, *name.split("_")[:2]) for name in wav_files())]
    table = write_csv(tmp_path / "table.csv", rows)
    tasks = tasks_of(root, table=str(table), columns={"file": "path", "class": "word", "speaker": "voice"})
    np.testing.assert_array_equal(tasks.inputs, tasks_of(root).inputs)
    with pytest.raises(InputError, match="it has path, word, voice, and task.columns says what they are"):
        tasks_of(root, table=str(table))
