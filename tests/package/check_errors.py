#!/usr/bin/env python3
"""docs/errors.md lists every status of types.h with its number, and no other.

  check_errors.py TYPES_H ERRORS_MD
  check_errors.py --self-test TYPES_H ERRORS_MD   loses, renumbers and invents a row, each of which must be found
"""
import pathlib
import re
import sys


def faults(header, page):
  statuses = dict(re.findall(r"^  (ISONORM_(?:OK|ERROR_\w+)) = (\d+)", header, re.MULTILINE))
  rows = re.findall(r"^\| `(ISONORM_\w+)` (\d+) \|", page, re.MULTILINE)
  if len(statuses) < 2:
    yield "the header has no statuses, so nothing was compared"
  for name, number in statuses.items():
    count = sum(row == (name, number) for row in rows)
    if count != 1:
      yield f"{name} = {number} has {count} rows, and must have one"
  for name, number in rows:
    if statuses.get(name) != number:
      yield f"the row `{name}` {number} is no status of the header"


def main():
  words = [word for word in sys.argv[1:] if word != "--self-test"]
  header, page = (pathlib.Path(word).read_text(encoding="utf-8") for word in words)
  if "--self-test" in sys.argv:
    line = "| `ISONORM_ERROR_EPS` 4 |"
    broken = {
        "lost": page.replace(line, "| eps |"),
        "renumbered": page.replace(line, line.replace("4", "44")),
        "invented": page + "\n| `ISONORM_ERROR_NEW` 99 | | |\n",
    }
    missed = [what for what, text in broken.items() if text == page or not list(faults(header, text))]
    print("not found: " + ", ".join(missed) if missed else "every broken row was found")
    return bool(missed)
  found = list(faults(header, page))
  print("\n".join(found) if found else "the page has every status")
  return bool(found)


if __name__ == "__main__":
  sys.exit(main())
