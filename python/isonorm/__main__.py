"""``python -m isonorm``: what a report about a fault needs, and a demonstration."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from typing import Optional, Sequence

import isonorm

USAGE, CANNOT_WRITE, INTERRUPTED, CLOSED_PIPE = 2, 4, 130, 141  # as the command's exit codes


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="python -m isonorm",
        description="RMSNorm and LayerNorm with the same bits everywhere. The command `isonorm` works on files.",
    )
    main.add_argument("--version", action="version", version=f"isonorm {isonorm.__version__}")
    verbs = main.add_subparsers(dest="verb", metavar="VERB")
    info = verbs.add_parser(
        "info",
        help="versions, CPU, instruction sets, loaded libraries, environment: what a report about a fault needs",
        description="Says what a report about a fault needs. No framework is imported.",
    )
    info.add_argument("--json", action="store_true", help="as JSON")
    verbs.add_parser(
        "demo",
        help="the same bits however a row is computed, contracts that differ, speed; takes some seconds",
        description="Shows what isonorm promises, in ten seconds at most. Exits with 1 if bits differ that must not.",
    )
    return main


def run(arguments: Optional[Sequence[str]] = None) -> int:
    """What `main` does, without its care for how programs end."""
    options = parser().parse_args(arguments)
    if options.verb == "info":
        from isonorm import _info

        found = _info.collect()
        print(json.dumps(found, indent=2) if options.json else _info.text(found))
        return 0
    if options.verb == "demo":
        from isonorm import demo

        return demo.run()
    parser().print_help(sys.stderr)
    return USAGE


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Returns the exit code: 0, 1 for a promise that was not kept, 2 for a wrong command line, and those of the command."""
    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left must not fail again at the end of the process
        if error.errno == errno.EPIPE:
            return CLOSED_PIPE
        print(f"python -m isonorm: standard output cannot be written: {error.strerror}", file=sys.stderr)
        return CANNOT_WRITE


if __name__ == "__main__":
    sys.exit(main())
