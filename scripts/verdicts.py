"""How often verdicts are right under a known truth: the table in docs/comparisons.md. `python scripts/verdicts.py`, a minute or two."""

import argparse

import numpy as np

from innerloop.reports.verdicts import Contender, compare_contenders

EPISODES, SPREAD_OF_EPISODES, NOISE = 100, 1.0, 0.2


def contenders(rng: np.random.Generator, seeds: int, spread: float, effect: float) -> list[Contender]:
    """One, and three others that are worse by `effect`. spread: of the means of networks from different seeds."""
    hard = rng.normal(scale=SPREAD_OF_EPISODES, size=EPISODES)
    drawn = []
    for index in range(4):
        means, noise = rng.normal(scale=spread, size=(seeds, 1)), rng.normal(scale=NOISE, size=(seeds, EPISODES))
        drawn.append(Contender(str(index), str(index), False, list(range(seeds)), hard + means + noise + effect * (index > 0), 1))
    return drawn


def rates(seeds: int, spread: float, effect: float, repetitions: int) -> tuple[float, float]:
    """How often one of three verdicts is one, and the part of verdicts that find the effect."""
    rng = np.random.default_rng(0)
    found = [
        compare_contenders(first, others, True) for first, *others in (contenders(rng, seeds, spread, effect) for _ in range(repetitions))
    ]
    return float(np.mean([any(one.answer is not None for one in three) for three in found])), float(
        np.mean([one.answer is False for three in found for one in three])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    repetitions = parser.parse_args().repetitions
    effects = (0.1, 0.3, 1.0)
    print("| seeds | spread of seeds | false verdicts |", " | ".join(f"finds {effect}" for effect in effects), "|")
    print("|---" * (3 + len(effects)) + "|")
    for seeds in (1, 2, 3, 5, 10):
        for spread in (0.0,) if seeds == 1 else (0.0, 0.05, 0.2):
            false = rates(seeds, spread, 0.0, repetitions)[0]
            power = [rates(seeds, spread, effect, repetitions)[1] for effect in effects]
            print(f"| {seeds} | {spread} | {100 * false:.1f} % |", " | ".join(f"{100 * p:.0f} %" for p in power), "|", flush=True)


if __name__ == "__main__":
    main()
