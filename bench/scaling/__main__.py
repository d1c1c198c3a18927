"""What ranks pay for exchanging, by the model of docs/scaling.md.

  bench/scaling             prints the tables
  bench/scaling --write     writes them into docs/scaling.md, and docs/scaling.svg
  bench/scaling --check     fails if that page or that picture has anything else

Needs Python alone. Numbers are computed from what model.py has; measure.py measures what is measured of it.
"""

import pathlib
import re
import sys

from picture import picture
from tables import BLOCKS

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


def rewritten(page: str) -> str:
    """The page with each block as it is computed; a mark that is missing or unknown is an error."""
    marks = re.findall(r"^<!-- scaling: (\w+) -->$", page, re.MULTILINE)
    if sorted(marks) != sorted(BLOCKS):
        raise SystemExit(f"docs/scaling.md has the blocks {', '.join(marks)}, and not each of {', '.join(BLOCKS)} once")
    for name, block in BLOCKS.items():
        page = re.sub(rf"(<!-- scaling: {name} -->\n).*?(<!-- end -->)", lambda m: m[1] + block() + m[2], page, flags=re.DOTALL)
    return page


def stale(page: str, drawing: str) -> list[str]:
    return [name for name, old, new in (("docs/scaling.md", page, rewritten(page)), ("docs/scaling.svg", drawing, picture())) if old != new]


def main() -> None:
    page, drawing = DOCS / "scaling.md", DOCS / "scaling.svg"
    if sys.argv[1:] == ["--write"]:
        page.write_text(rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")
        drawing.write_text(picture(), encoding="utf-8")
    elif sys.argv[1:] == ["--check"]:
        if found := stale(page.read_text(encoding="utf-8"), drawing.read_text(encoding="utf-8")):
            raise SystemExit(f"{' and '.join(found)} is not what bench/scaling computes: run `python3 bench/scaling --write`")
        print("docs/scaling.md and docs/scaling.svg have what bench/scaling computes")
    elif not sys.argv[1:]:
        print("\n".join(block() for block in BLOCKS.values()))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
