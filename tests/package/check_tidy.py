#!/usr/bin/env python3
"""clang-tidy on the library, the tools and the fuzzers, several files at once.

  check_tidy.py ROOT BUILD CLANG_TIDY CACHE

A file whose preprocessed text, flags and .clang-tidy passed before is not read again: that is what CACHE remembers.
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys

# g++ flags that clang does not know, and outputs that are not wanted here.
DROP = re.compile(r"^(-fno-trapping-math|-fno-math-errno|-march=native|-fdiagnostics-color.*|-W.*|-M.*)$")

# Kernels are the same text for every instruction set: one of them is read.
ONE_TARGET = ["-DHWY_COMPILE_ONLY_STATIC"] + (["-march=haswell"] if platform.machine() == "x86_64" else [])


def command_of(entry):
  words = entry.get("arguments") or shlex.split(entry["command"])
  while words and not re.search(r"(\+\+|cc|clang|gcc)(-\d+)?$", words[0]):
    words = words[1:]  # a launcher such as ccache
  kept, skip = [], False
  for word in words[1:]:
    if skip or word in ("-o", "-MF", "-MT", "-MQ"):
      skip = not skip
    elif word != "-c" and word != entry["file"] and not DROP.match(word):
      kept.append(word)
  return kept + ONE_TARGET


def check(entry, root, clang_tidy, cache):
  flags = command_of(entry)
  clang = clang_tidy.replace("clang-tidy", "clang")
  text = subprocess.run([clang, "-E", "-P", *flags, entry["file"]], cwd=entry["directory"], capture_output=True, check=False)
  if text.returncode != 0:
    return entry["file"], False, text.stderr.decode()
  key = hashlib.sha256(text.stdout + " ".join(flags).encode() + (root / ".clang-tidy").read_bytes()).hexdigest()
  if (cache / key).exists():
    return entry["file"], True, ""
  result = subprocess.run([clang_tidy, "--quiet", entry["file"], "--", *flags], cwd=entry["directory"], capture_output=True,
                          text=True, check=False)
  if result.returncode == 0:
    (cache / key).touch()
  return entry["file"], result.returncode == 0, result.stdout + result.stderr


def main():
  root, build, clang_tidy, cache = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4])
  cache.mkdir(parents=True, exist_ok=True)
  entries = {}
  for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
    path = pathlib.Path(entry["file"])
    if path.is_relative_to(root) and path.relative_to(root).parts[0] in ("src", "tools", "fuzz"):
      entries[entry["file"]] = entry
  if not entries:
    raise SystemExit(f"{build}/compile_commands.json names no file of {root}, so nothing was checked")
  failed = 0
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for name, passed, output in pool.map(lambda e: check(e, root, clang_tidy, cache), entries.values()):
      if not passed:
        failed += 1
        print(f"{name}\n{output[:8000]}", flush=True)
  print(f"{len(entries)} files, {failed} with findings")
  return failed != 0


if __name__ == "__main__":
  sys.exit(main())
