"""Intents of what people ask an assistant."""

import json
from pathlib import Path
from typing import Any

from innerloop.config import InputError
from innerloop.tasks.class_split import by_split, listed
from innerloop.tasks.csv_files import check_text
from innerloop.tasks.download import download
from innerloop.tasks.places import one_place
from innerloop.tasks.texts.texts import Texts

BASE_URL = "https://raw.githubusercontent.com/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data/"
SHA256 = {
    "data_full.json": "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
    "domains.json": "b947b579d3b8e74b06f93b01083d8efaff2888b43a3e362533bd88a6e1211b3a",
}


class Clinc150(Texts):
    """CLINC150 (Larson et al. 2019, arXiv 1909.02027): 150 intents of 10 domains, 150 utterances each; out-of-scope ones are left out.

    root: folder of data_full.json and domains.json, which are downloaded into it where they are missing. split: the train, val and test
    lists of domains: whole domains are unseen. Raises InputError for files that are missing (and cannot be downloaded) or damaged.
    """

    def __init__(
        self, root: str, split: dict[str, list[str]], tokenizer: str | None, vocabulary: int, length: int, **shape: Any,
    ) -> None:  # fmt: skip
        folder = one_place(root)
        data, domains = (read_json(folder, name) for name in SHA256)
        try:
            found = [(text, intent) for part in ("train", "val", "test") for text, intent in data[part]]
            texts = [
                (check_text(text, f"utterance {i} of {folder / 'data_full.json'}"), str(intent)) for i, (text, intent) in enumerate(found)
            ]
            there = {str(domain): [str(intent) for intent in intents] for domain, intents in domains.items()}
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{folder} (task.root) does not hold CLINC150's files; delete them there to download the official ones"
            ) from error
        chosen = by_split(listed(split), list(there), folder)
        parts = {part: [intent for domain in names for intent in there[domain]] for part, names in chosen.items()}
        super().__init__(texts, parts, tokenizer, vocabulary, length, **shape)


def read_json(root: Path, name: str) -> dict[str, list[list[str]]]:
    path = root / name
    if not path.is_file():
        path = download(BASE_URL, name, f"sha256:{SHA256[name]}", root, " and ".join(SHA256))
    try:
        content: dict[str, list[list[str]]] = json.loads(path.read_text(encoding="utf-8"))
        return content
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged; delete it and start again to download the official one") from error
