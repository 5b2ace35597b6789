"""Which Omniglot character belongs to which split. The lists are committed: splits/omniglot_*.csv, one `Alphabet/characterNN,split` a line.

- vinyals: 1028 / 172 / 423 characters, the lists of Vinyals et al. 2016 as prototypical-networks (Snell et al. 2017) published them.
- maml: 1100 / 100 / 423. reptile: 1200 / 0 / 423. The original code shuffled the order in which the file system listed the folders,
  so its lists cannot be had again. These were made by `random.Random(seed).shuffle` of the sorted names of all 1623 characters,
  seed 1 for maml and seed 0 for reptile: the first 1100 (1200) are train, maml's next 100 are val, the last 423 are test.
"""

import csv
from importlib.resources import files

SPLITS = ("vinyals", "maml", "reptile")


def read_split(split: str) -> dict[str, str]:
    """The split ("train", "val" or "test") of each character ("Alphabet/characterNN")."""
    text = (files("innerloop.tasks") / "splits" / f"omniglot_{split}.csv").read_text(encoding="utf-8")
    return {row["character"]: row["split"] for row in csv.DictReader(text.splitlines())}
