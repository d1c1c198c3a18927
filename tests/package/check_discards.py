#!/usr/bin/env python3
"""A compiler warns of each line of a file that throws away what a function of the C++ face returns, and of no other.

  check_discards.py COMPILER INCLUDE DISCARDS_CC
"""
import pathlib
import re
import subprocess
import sys


def warned(compiler, include, source, *more):
  """The lines about which it warns so, by number; 0 stands for all else that it finds."""
  command = [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-I", include, *more, source]
  run = subprocess.run(command, capture_output=True, text=True, check=False)
  warning = rf"^{re.escape(source)}:(\d+):\d+: warning: ignoring return value"
  lines = {int(number) for number in re.findall(warning, run.stderr, re.MULTILINE)}
  others = [line for line in run.stderr.splitlines() if re.search(r"error:|warning:", line) and "ignoring return" not in line]
  return lines | ({0} if others or run.returncode != 0 else set()), run.stderr


def main():
  compiler, include, source = sys.argv[1:]
  text = pathlib.Path(source).read_text(encoding="utf-8").splitlines()
  want = {number for number, line in enumerate(text, 1) if line.startswith("  DISCARD(")}
  kept, log = warned(compiler, include, source, "-DKEPT")
  if kept or not want:
    raise SystemExit(f"{source} does not compile even where results are kept:\n{log}")
  got, log = warned(compiler, include, source)
  for number in sorted(want - got):
    print(f"{source}:{number}: compiles although the result is thrown away: {text[number - 1].strip()}")
  for number in sorted(got - want):
    print(f"{source}:{number}: something else:\n{log}")
  print(f"{compiler} warns of {len(want & got)} of {len(want)} lines")
  return got != want


if __name__ == "__main__":
  sys.exit(main())
