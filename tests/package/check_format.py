#!/usr/bin/env python3
"""clang-format on every C and C++ file of the repository: what it would change is a fault.

  check_format.py ROOT CLANG_FORMAT [--fix]
"""
import pathlib
import subprocess
import sys

from check_house import repository_files

SUFFIXES = {".c", ".cc", ".h", ".hpp", ".inc"}


def main():
  root, clang_format, *fix = sys.argv[1:]
  files = [name for name in repository_files(root) if pathlib.PurePath(name).suffix in SUFFIXES]
  if not files:
    raise SystemExit(f"{root} has no C or C++ file, so nothing was checked")
  mode = ["-i"] if fix else ["--dry-run", "-Werror"]
  result = subprocess.run([clang_format, *mode, *files], cwd=root, capture_output=True, text=True, check=False)
  print(result.stderr[:20000])
  if result.returncode != 0:
    print("to repair: python3 tests/package/check_format.py . clang-format --fix")
    return 1
  print(f"{len(files)} files are formatted")
  return 0


if __name__ == "__main__":
  sys.exit(main())
