"""Writes the tables of published numbers beside ours, from ledger/: python scripts/ledger.py

docs/ledger.md has all rows, README.md ten: of each article's data set the one of the best verdict.
"""

import textwrap
from pathlib import Path

from innerloop.reports.ledger import HEAD, Row, markdown, read_rows, unfilled, verdict

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- ledger -->", "<!-- /ledger -->"
SHORT = ["cell", "article", "published", "ours", "verdict", "minutes"]
ORDER = ("reproduced", "reached", "above", "explained", "open", "")


def wrapped(text: str) -> str:
    lines = text.splitlines()
    return "\n".join(textwrap.fill(line, 150, subsequent_indent="  " * line.startswith("-"), break_on_hyphens=False) for line in lines)


def filled(text: str, table: str) -> str:
    """A page with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}"


def best(rows: dict[str, Row | None], count: int = 10) -> list[str]:
    """The row of the best verdict of each article's data set, as many as that, in the order of the ledger."""
    there = {name: row for name, row in rows.items() if row and not row.cell.article.startswith("the same")}
    first: dict[str, str] = {}
    for name in sorted(there, key=lambda name: ORDER.index(verdict(there[name], rows))):
        first.setdefault(", ".join(there[name].cell.article.split(", ")[:2]), name)
    chosen = list(first.values())[:count]
    return [name for name in there if name in chosen]


def pages() -> dict[Path, str]:
    """What each page is to be."""
    rows = read_rows(ROOT / "ledger")
    departures: dict[str, list[str]] = {}
    for name, row in rows.items():
        if row and row.cell.departs:
            departures.setdefault(row.cell.departs, []).append(f"`{name}`")
    listed = "\n".join(f"- {', '.join(names)}: {departs}." for departs, names in departures.items())
    missing = [f"Not run yet: {', '.join(unfilled(rows))}."] if unfilled(rows) else []
    parts = [listed, *missing]
    table = "\n\n".join([markdown(rows, HEAD), "Where ours departs from the article:", *map(wrapped, parts)])
    of = {ROOT / "docs/ledger.md": table, ROOT / "README.md": markdown(rows, SHORT, best(rows))}
    return {path: filled(path.read_text(), table) for path, table in of.items()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
        print(f"ledger: {path}")
