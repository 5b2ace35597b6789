"""Debian's manual pages in 26 languages, as text for task=text_folder: python scripts/manpages.py DIR

A folder for each language, a file for each page, without its typesetting commands. As Debian serves them: apt-get downloads the packages
(25 MB, nothing is installed), dpkg-deb unpacks them. The pages are free software under licences of their own, most of them the GNU GPL (the
translations: GPL 3 or later), BSD or the verbatim licence of Linux's; each package's copyright file is kept beside the text.
"""

import argparse
import gzip
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CODES = "cs da de el es fi fr hu id it ja mk nb nl pl pt-br ro ru sr sv tr uk vi zh"
PACKAGES = ["manpages", *(f"manpages-{code}" for code in CODES.split())]
COMMENT = re.compile(r"""^['.]\s*\\["#].*$\n?""", re.M)
MACRO = re.compile(r"^['.][ \t]*[A-Za-z]{1,3}\b[ \t]*", re.M)  # .SH, .B: what follows them is text
FONT = re.compile(r"\\f(\[[^\]]*\]|\(..|.)|\\s[-+]?\d+|\\[&/,|^%)]")
CHARACTER = {r"\-": "-", r"\(aq": "'", r"\(bu": "*", r"\(em": "-", r"\(co": "(c)", r"\e": "\\", r"\ ": " ", r"\~": " "}


def plain(page: str) -> str:
    """The words of a page."""
    text = FONT.sub("", MACRO.sub("", COMMENT.sub("", page)))
    for escape, character in CHARACTER.items():
        text = text.replace(escape, character)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def unpack(package: Path, target: Path) -> None:
    """Of every page of a package TARGET/LANGUAGE/NAME.txt; links to other pages are passed over."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", str(package), folder], check=True)
        for path in sorted(Path(folder).rglob("usr/share/man/**/*.gz")):
            page = gzip.decompress(path.read_bytes()) if path.is_file() and not path.is_symlink() else b""
            if not page or page.startswith(b".so "):
                continue
            language = path.parent.parent.name
            file = target / ("en" if language == "man" else language) / f"{path.stem}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(plain(page.decode("utf-8", "replace")))
        for notice in Path(folder).glob("usr/share/doc/*/copyright"):
            (target / ".copyright").mkdir(exist_ok=True)
            shutil.copy(notice, target / ".copyright" / notice.parent.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    target = parser.parse_args().directory
    if target.exists() and any(target.iterdir()):
        sys.exit(f"{target} has files already; name a new folder")
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        sys.exit("this takes Debian's packages by apt-get and dpkg-deb, which are not here; run it on Debian or Ubuntu")
    with tempfile.TemporaryDirectory() as downloads:
        Path(downloads).chmod(0o777)  # apt-get downloads as a user of its own
        done = subprocess.run(["apt-get", "download", "-q", *PACKAGES], cwd=downloads, capture_output=True, text=True)
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if line.startswith("E:")), "no reason given")
            sys.exit(f"apt-get cannot download ({reason}); run apt-get update, or go online")
        for package in sorted(Path(downloads).glob("*.deb")):
            unpack(package, target)
    for language in sorted(path for path in target.iterdir() if not path.name.startswith(".")):
        pages = list(language.iterdir())
        print(f"{language.name}: {len(pages)} pages, {sum(page.stat().st_size for page in pages) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
