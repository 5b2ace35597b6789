"""How time and memory of an outer step grow: python scripts/cost.py [--output docs/cost.png] [--quick]

Second-order MAML on conv4 with max-pooling, 28x28 images, 1 shot and 5 queries a class, engine=loop. Around 4 tasks (8 on threads), 1 inner
step, 5 ways, 64 filters and 1 thread, one of these is changed at a time; each point is a process of its own. Draws the picture, prints the
numbers and writes them beside it (.json).
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CENTRE = {"tasks": 4, "steps": 1, "ways": 5, "filters": 64, "threads": 1}
SWEEPS = {"tasks": [1, 2, 4, 8, 16], "steps": [1, 2, 3, 5], "ways": [2, 5, 10, 20], "filters": [16, 32, 64, 128], "threads": [1, 2]}
VARIANTS: dict[str, dict[str, Any]] = {"plain": {}, "checkpoint_inner": {"checkpoint_inner": True}, "chunk_size=1": {"chunk_size": 1}}
LABELS = {"tasks": "tasks in the meta-batch", "steps": "inner steps", "ways": "ways", "filters": "filters", "threads": "threads over tasks"}


def resident(field: str) -> float:
    """Megabytes of this process: VmRSS now, VmHWM at most since the last reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def measure(
    tasks: int, steps: int, ways: int, filters: int, threads: int, checkpoint_inner: bool, chunk_size: int | None
) -> dict[str, float]:
    """Seconds of an outer step, the least of three, and the megabytes that it takes above what was there before."""
    import torch

    from innerloop.algorithms.maml import MAML
    from innerloop.engine import forward as engines
    from innerloop.episode import Episode, Examples
    from innerloop.models.conv4 import Conv4
    from innerloop.objective import CLASSIFICATION
    from innerloop.training.shares import Execution, TaskShares

    torch.manual_seed(0)
    torch.set_num_threads(1)

    def examples(per_class: int) -> Examples:
        labels = torch.arange(ways).repeat(per_class).expand(tasks, -1).contiguous()
        return Examples(torch.rand(tasks, ways * per_class, 1, 28, 28), labels)

    def network(filters: int) -> TaskShares:
        model = Conv4((1, 28, 28), ways, filters, "batch", "max")
        algorithm = MAML(model, CLASSIFICATION, engines.loop, 0.1, steps, False, checkpoint_inner)
        return TaskShares(algorithm, Execution(engines.loop, chunk_size, False), threads)

    episodes = Episode(examples(1), examples(5))
    network(filters=1).take_gradients(Episode(*(Examples(x[:1], y[:1]) for x, y in episodes)))  # loads what torch loads at first use
    shares = network(filters)
    before, seconds = resident("VmRSS"), []
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    for _ in range(3):
        started = time.perf_counter()
        shares.take_gradients(episodes)
        seconds.append(time.perf_counter() - started)
    return {"seconds": min(seconds), "mb": resident("VmHWM") - before}


def points(quick: bool) -> list[dict[str, Any]]:
    """One change at a time from the centre; all variants where memory is the question."""
    found = []
    for axis, values in SWEEPS.items():
        for value in values[:2] if quick else values:
            for variant in VARIANTS if axis in ("tasks", "steps") and not quick else ["plain"]:
                place = CENTRE | ({"tasks": 8} if axis == "threads" else {}) | {axis: value}
                found.append({"axis": axis, "value": value, "variant": variant, "place": place})
    return found


def run(point: dict[str, Any]) -> dict[str, Any]:
    arguments = {"checkpoint_inner": False, "chunk_size": None} | VARIANTS[point["variant"]] | point["place"]
    command = [sys.executable, __file__, "--point", json.dumps(arguments)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return point | json.loads(output.strip().splitlines()[-1])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(SWEEPS), figsize=(15, 6), layout="constrained", sharey="row")
    for column, axis in enumerate(SWEEPS):
        for row, (key, unit) in enumerate((("seconds", "seconds an outer step"), ("mb", "MB of memory"))):
            plot = axes[row][column]
            for variant in VARIANTS:
                mine = [r for r in rows if r["axis"] == axis and r["variant"] == variant]
                if mine:
                    plot.plot([r["value"] for r in mine], [r[key] for r in mine], "o-", label=variant)
            plot.set(xlabel=LABELS[axis], xticks=SWEEPS[axis], ylim=(0, 1.1 * max(r[key] for r in rows)))
            plot.grid(alpha=0.3)
            if column == 0:
                plot.set_ylabel(unit)
    axes[0][0].legend()
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("cost.png"))
    parser.add_argument("--quick", action="store_true", help="two points an axis")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(**options.point)))
        return
    rows = []
    for point in points(options.quick):
        rows.append(run(point))
        about = ", ".join(f"{name}={value}" for name, value in point["place"].items())
        print(f"{about}, {point['variant']}: {rows[-1]['seconds']:.2f} s, {rows[-1]['mb']:.0f} MB", flush=True)
    draw(rows, options.output)
    options.output.with_suffix(".json").write_text(json.dumps(rows, indent=1))
    print(f"picture: {options.output}")


if __name__ == "__main__":
    main()
