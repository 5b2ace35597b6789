"""Each process takes its share of the meta-batch: the averaged gradient is that of one process on all of it."""

import json

from tests.algorithms.test_gradients import CASES
from tests.algorithms.test_zoo import ZOO
from tests.command_line import start
from tests.conftest import ROOT
from tests.training.two_processes import FEW, OTHERS, READERS


def test_averaged_gradients_are_those_of_one_process():
    """Every algorithm, both orders, on vmap, on loop with batch norm, and task by task; and with the weights shared out."""
    stdout, _ = start("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tests.training.two_processes", cwd=ROOT)
    found = json.loads(next(line for line in stdout.splitlines() if line.startswith("FOUND")).removeprefix("FOUND"))
    assert len(found) == 4 * len([*CASES, *OTHERS, *FEW]) + len([*ZOO, *READERS])  # in four ways, some in float32 too; the others in one
    for what, error in found.items():
        assert error < (1e-12 if "float64" in what else 2e-6), what
