"""Where numbers come from: the code, the command and the machine."""

import functools
import hashlib
import os
import platform
import resource
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig

from innerloop.project import project

VERBS = ("innerloop", "__main__")  # what a program of innerloop's verbs is called
PACKAGES = ("innerloop", "torch", "lightning", "hydra-core", "numpy")


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def peak_memory_mb() -> float:
    """Most memory so far of this process: on the GPU if one was used, else in all. Jobs of one process share it."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def command() -> str:
    """What to type to have this again: of a job in a sweep, the job alone. A notebook has none."""
    if HydraConfig.initialized():
        ours = ["innerloop", "train"] if project() or Path(sys.argv[0]).stem in VERBS else ["python", "train.py"]
        return shlex.join([*ours, *HydraConfig.get().overrides.task])
    if "ipykernel" in sys.modules:
        return "none: a notebook; config.yaml has its settings"
    program = Path(sys.argv[0]).absolute()
    if program.stem in VERBS:
        return shlex.join(["innerloop", *sys.argv[1:]])
    here = Path.cwd()
    return shlex.join(["python", str(program.relative_to(here) if program.is_relative_to(here) else program), *sys.argv[1:]])


@functools.cache  # of the code that was loaded, not of what it is when a run ends
def commit() -> str | None:
    """The commit of the source tree, with "+changes-" and letters for what was edited in it; None outside a git checkout."""
    git = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent)]  # a killed process would leave its lock behind
    try:
        ours = ["ls-files", "--error-unmatch", Path(__file__).name]  # installed inside a user's checkout it is not part of it
        subprocess.run([*git, *ours], capture_output=True, check=True)
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        code = ["--", ":/src", ":/conf", ":/train.py"]  # what a user keeps beside it does not matter
        commands = [[*git, "status", "--porcelain", *code], [*git, "diff", "HEAD", *code]]
        changes = "".join(subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+changes-{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else head


def hardware() -> str:
    """The processor, or the GPU if torch sees one."""
    processor = f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name()}; {processor}" if torch.cuda.is_available() else processor


def cpu_name() -> str:
    """As the kernel names it where it says (Linux), else the architecture."""
    try:
        names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
