"""What is said while PyTorch loads, and what is not done meanwhile."""

import gc
import time

from innerloop import console


def test_the_garbage_collector_leaves_out_what_was_loaded(monkeypatch, capsys):
    at_exit = []
    monkeypatch.setattr(console.atexit, "register", at_exit.append)
    monkeypatch.setattr(console, "SECONDS", 0.0)
    monkeypatch.delitem(console.sys.modules, "torch", raising=False)
    before, deadline = gc.get_freeze_count(), time.monotonic() + 20
    try:
        with console.loading():
            assert not gc.isenabled()
            while "loading PyTorch and Lightning ..." not in capsys.readouterr().out:
                assert time.monotonic() < deadline
        assert gc.isenabled() and gc.get_freeze_count() > before and at_exit == [gc.unfreeze]
    finally:
        gc.unfreeze()


def test_a_second_time_there_is_nothing_to_leave_out():
    """As in the jobs of a sweep that share a process."""
    import torch  # noqa: F401

    before = gc.get_freeze_count()
    with console.loading():
        assert gc.isenabled()
    assert gc.get_freeze_count() == before
