"""Files from the web."""

import logging
from pathlib import Path

import pooch

from innerloop.config import InputError
from innerloop.tasks.places import writable

RETRIES = 1
TIMEOUT = (3.05, 30)  # seconds to connect, and between two pieces: a cluster node without a way out should fail soon


def download(base_url: str, name: str, checksum: str, root: Path, wanted: str) -> Path:
    """The file `name` of `base_url`, put into `root`. checksum: as pooch writes them, "md5:..."; wanted: what the user could put there.

    Raises InputError when it cannot be had, or is another.
    """
    if not writable(root):
        raise InputError(f"{name} is not in {root} (task.root), and that folder cannot be written to; name the folder that holds {wanted}")
    pooch.get_logger().setLevel(logging.WARNING)
    files = pooch.create(root, base_url, registry={name: checksum}, retry_if_failed=RETRIES)
    try:
        return Path(files.fetch(name, downloader=pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16, timeout=TIMEOUT)))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; another checksum is a plain ValueError
        reason = f"its {checksum.partition(':')[0]} is not the official one" if type(error) is ValueError else type(error).__name__
        raise InputError(f"could not download {files.get_url(name)} ({reason}); put {wanted} in the folder {root} (task.root)") from error
