"""Progress of long work, by tqdm if it is installed."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Callable, Iterator, Optional

WORTH_BYTES = 64 << 20  # less is done before a bar could be read


@contextlib.contextmanager
def progress_bar(show: Optional[bool], what: str, total: int) -> Iterator[Optional[Callable[[int], Any]]]:
    """A function that is called with the bytes that were done, or None: nobody wants to know.

    show: True for a bar at once, False for none, None for one where tqdm is installed, somebody is looking (a terminal or a
    notebook), there are 64 MiB of work or more, and it takes longer than a second.
    """
    if show is False or (show is None and total < WORTH_BYTES):
        yield None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if show:
            raise ImportError("progress is True, which needs tqdm: pip install tqdm") from None
        yield None
        return
    notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    if show is None and not notebook and not sys.stderr.isatty():
        yield None
        return
    delay = 0 if show else 1
    with tqdm(total=total, desc=what, unit="B", unit_scale=True, leave=bool(show), delay=delay, miniters=1) as bar:
        done = 0

        def update(count: int) -> None:
            nonlocal done
            done += count
            bar.update(count)

        yield update
        update(total - done)
