"""CPU seconds of one meta-iteration of policies, innerloop beside learn2learn:

    python scripts/benchmark_policies.py [--learn2learn EXAMPLES PACKAGES]

2D navigation, 20 tasks x 20 rollouts x 100 steps, before and after one inner step, 100-100 policy, one thread. Each program runs twice,
with few and with more iterations; the difference is what iterations take, without start, compilation or tests.

EXAMPLES: the folder examples/rl of learn2learn's source distribution. PACKAGES: a folder with what that needs, since today's versions will
not do:

    pip install "setuptools==65.5.0" "wheel==0.38.4"
    pip install --no-build-isolation --no-deps --target PACKAGES gym==0.21.0 cherry-rl==0.2.0 dotmap numpy==1.26.4 "cloudpickle<3"
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = ["task=navigation2d", "algo.inner_lr=0.1", "val_every=1000", "val_episodes=2", "test_episodes=2", "threads=1", "logger=none"]
THEIRS = "import maml_trpo; maml_trpo.main(env_name='Particles2D-v1', num_iterations={}, meta_bsz=20, adapt_bsz=20, num_workers=1)"


def cpu_seconds(command: list[str], folder: Path | str, path: str = "") -> float:
    """Of a program and the processes it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.stderr.strip().splitlines()[-1:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(settings: list[str], few: int, more: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        of = {
            steps: cpu_seconds(["train.py", *OURS, *settings, f"outer_steps={steps}", f"hydra.run.dir={folder}/{steps}"], ROOT)
            for steps in (few, more)
        }
    return (of[more] - of[few]) / (more - few)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learn2learn", nargs=2, metavar=("EXAMPLES", "PACKAGES"))
    parser.add_argument("--rounds", type=int, default=3, help="of each program, in turns")
    parser.add_argument("--steps", type=int, nargs=2, default=(2, 22), help="outer steps of ours, few and more")
    args = parser.parse_args()
    for number in range(args.rounds):
        row = {
            "PPO, 5 epochs": ours([], *args.steps),
            "trust region": ours(["optimizer=trust_region"], *args.steps),
        }
        if args.learn2learn:
            examples, packages = (str(Path(folder).resolve()) for folder in args.learn2learn)
            start, one = (cpu_seconds(["-c", THEIRS.format(count)], examples, packages) for count in (0, 1))
            row["learn2learn, trust region"] = one - start
        print(f"round {number}: " + ", ".join(f"{name} {seconds:.2f} CPU s" for name, seconds in row.items()), flush=True)


if __name__ == "__main__":
    main()
