"""Gives each job of a sweep on this machine GPUs of its own."""

import getpass
import os
import tempfile
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from innerloop.config import InputError

CLAIMED: list[FileLock] = []  # until the process ends: CUDA cannot change its GPUs once it has begun


def claim_gpus(number: int) -> None:
    """Leaves this process `number` GPUs that no other one has claimed, in CUDA_VISIBLE_DEVICES. Waits until there are as many.

    A process that takes job after job keeps its GPUs. Raises InputError where the machine, or that process, has fewer.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]
    if number > len(gpus):
        raise InputError(f"trainer.devices={number} asks for more GPUs than the {len(gpus)} that a job of this sweep can have")
    while not CLAIMED:
        free = claim_free(gpus, number)
        if len(free) == number:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(free)
        else:
            time.sleep(1)


def claim_free(gpus: list[str], number: int) -> list[str]:
    """The first `number` of `gpus` that are free, now ours; none if they are fewer."""
    directory = Path(tempfile.gettempdir()) / f"innerloop-gpus-{getpass.getuser()}"
    directory.mkdir(exist_ok=True)
    free, locks = [], []
    with FileLock(directory / "choosing"):
        for gpu in gpus:
            lock = FileLock(directory / gpu, timeout=0)
            try:
                lock.acquire()
            except Timeout:
                continue
            free.append(gpu)
            locks.append(lock)
            if len(free) == number:
                CLAIMED.extend(locks)
                return free
        for lock in locks:
            lock.release()
        return []
