"""A contender of benchmark.py: train.py itself, with a callback that stops for each line on standard input.

python scripts/benchmark_training.py OVERRIDES: those of train.py. Answers with the seconds of one outer step, over a block of them.
"""

import json
import resource
import sys
import time
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from innerloop.config import register

WARM_UP, BLOCK = 200, 300
register()


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> None:
    import lightning

    from innerloop.runs.build import build_run, build_trainer
    from innerloop.runs.settings import origin_of, with_output_dir

    class Turns(lightning.Callback):
        """Waits for its turn after the warm-up, and after each block."""

        started = 0.0

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step < WARM_UP or (trainer.global_step - WARM_UP) % BLOCK:
                return
            seconds = (time.perf_counter() - self.started) / BLOCK
            print(
                "\n" + json.dumps({"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}), flush=True
            )
            if not sys.stdin.readline():
                sys.exit()
            self.started = time.perf_counter()

    built = build_run(with_output_dir(cfg, HydraConfig.get().runtime.output_dir))
    trainer = build_trainer(built.cfg, origin_of(built.cfg), built.learner.steps_at_once)
    trainer.callbacks.append(Turns())  # type: ignore[attr-defined]
    trainer.fit(built.learner, datamodule=built.data)


if __name__ == "__main__":
    main()
