"""Gives each job of a sweep on this machine GPUs of its own."""

import logging
import os
import tempfile
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from innerloop.config import InputError
from innerloop.sweeps.launchers import CHOICE

log = logging.getLogger(__name__)
CLAIMED: list[FileLock] = []  # until the process ends: CUDA cannot change its GPUs once it has begun


def claim_gpus(number: int) -> None:
    """Leaves this process `number` GPUs that no other one has claimed, in CUDA_VISIBLE_DEVICES. Waits until there are as many.

    A process that takes job after job keeps its GPUs. Raises InputError where the machine, or that process, has fewer.
    """
    named = os.environ.get(CHOICE) or os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]
    if number > len(gpus):
        raise InputError(f"trainer.devices={number} asks for more GPUs than the {len(gpus)} that a job of this sweep can have")
    if CLAIMED and len(CLAIMED) != number:
        raise InputError(f"trainer.devices={number} in a process that has {len(CLAIMED)}; sweep it with hydra/launcher=submitit_local")
    if CLAIMED or claim_free(gpus, number):
        return
    log.info(f"waiting for {number} of the GPUs {','.join(gpus)}, which other jobs have")
    while not claim_free(gpus, number):
        time.sleep(1)


def claim_free(gpus: list[str], number: int) -> bool:
    """Takes the first `number` of `gpus` that are free, or none where they are fewer."""
    directory = Path(tempfile.gettempdir()) / f"innerloop-gpus-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.getuid():
        raise InputError(f"{directory}, where jobs say which GPUs they have, is not yours; delete it, or set TMPDIR to another folder")
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
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(free)
                return True
        for lock in locks:
            lock.release()
        return False
