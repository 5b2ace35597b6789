"""Files are written whole, whoever else writes them."""

import multiprocessing
import os

import numba

from innerloop.files import write_whole
from innerloop.models import norm_relu_pool


def write_many(path, letter, errors):
    os.getpid = lambda: 1  # as in two containers, or on two machines of one shared disk
    os.fsync = lambda descriptor: None  # for speed
    for _ in range(200):
        try:
            write_whole(path, letter * 5000)
        except Exception as error:
            errors.put(str(error))


def test_two_writers_of_one_process_number(tmp_path):
    path, context = tmp_path / "file", multiprocessing.get_context("fork")
    errors = context.Queue()
    writers = [context.Process(target=write_many, args=(path, letter, errors)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            assert path.read_bytes() in (b"a" * 5000, b"b" * 5000)
    assert errors.empty() and [name.name for name in tmp_path.iterdir()] == ["file"]


def test_the_kernel_is_compiled_where_nothing_can_be_cached(monkeypatch):
    """In a container whose files and home folder are read-only, numba finds no place and raises."""

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(norm_relu_pool, "njit", njit)
    assert norm_relu_pool.compiled(lambda x: x + 1)(2) == 3
