#!/usr/bin/env python3
"""clang-tidy on the library, the tools, the Python package and the fuzzers, several files at once.

  check_tidy.py ROOT BUILD CLANG_TIDY CACHE
  check_tidy.py --self-test ROOT BUILD CLANG_TIDY   puts a fault into a copy of a kernel's header, which must be found

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
import shutil
import subprocess
import sys
import tempfile

# g++ flags that clang does not know, and outputs that are not wanted here.
DROP = re.compile(r"^(-fno-trapping-math|-fno-math-errno|-mmem(set|cpy)-strategy=.*|-march=native|-fdiagnostics-color.*|-W.*|-M.*)$")

# Kernels are the same text for every instruction set: one that has the tuned loops is read. Highway asks for AES, which clang
# does not count to Haswell; without it the target would be SSSE3, which has no tuned loops to read.
X86 = platform.machine() == "x86_64"
ONE_TARGET = ["-DHWY_COMPILE_ONLY_STATIC"] + (["-march=haswell", "-maes", "-mpclmul"] if X86 else [])
TUNED_NAMESPACE = b"namespace N_AVX2" if X86 else b"namespace N_NEON"


def command_of(entry):
  words = entry.get("arguments") or shlex.split(entry["command"])
  while words and not re.search(r"(\+\+|cc|clang|gcc)(-\d+)?$", words[0]):
    words = words[1:]  # a launcher such as ccache
  kept, skip = [], False
  for word in words[1:]:
    if skip or word in ("-o", "-MF", "-MT", "-MQ", "-include"):
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
  if b"AddTuned" in text.stdout and TUNED_NAMESPACE not in text.stdout:
    return entry["file"], False, "its tuned loops were not compiled, so they would not be read"
  key = hashlib.sha256(text.stdout + " ".join(flags).encode() + (root / ".clang-tidy").read_bytes()).hexdigest()
  if (cache / key).exists():
    return entry["file"], True, ""
  result = subprocess.run([clang_tidy, "--quiet", entry["file"], "--", *flags], cwd=entry["directory"], capture_output=True,
                          text=True, check=False)
  if result.returncode == 0:
    (cache / key).touch()
  return entry["file"], result.returncode == 0, result.stdout + result.stderr


def each_file(entry):
  """The files of an entry, each with the same flags: of a unity build those that it includes."""
  file = pathlib.Path(entry["file"])
  if file.parent.name != "Unity":
    return [entry]
  files = re.findall(r'^#include "(.+)"$', file.read_text(encoding="utf-8"), re.MULTILINE)
  return [{**entry, "file": name, "command": entry["command"].replace(entry["file"], name)} for name in files]


def entries_of(root, build):
  entries = {}
  commands = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
  for entry in (each for command in commands for each in each_file(command)):
    path = pathlib.Path(entry["file"])
    if path.is_relative_to(root) and path.relative_to(root).parts[0] in ("src", "tools", "python", "fuzz"):
      entries[entry["file"]] = entry
  if not entries:
    raise SystemExit(f"{build}/compile_commands.json names no file of {root}, so nothing was checked")
  return entries


def self_test(root, build, clang_tidy):
  with tempfile.TemporaryDirectory() as folder:
    copy, end = pathlib.Path(folder), "}  // namespace HWY_NAMESPACE"
    for part in ("src", "include"):
      shutil.copytree(root / part, copy / part)
    shutil.copy(root / ".clang-tidy", copy)
    header = copy / "src/cpu/tuned/forward-inl.h"
    text = header.read_text(encoding="utf-8")
    header.write_text(text.replace(end, f"inline double Fault(int n) {{ return 1.0 * (n / 2); }}\n{end}"), encoding="utf-8")
    entry = json.dumps(entries_of(root, build)[str(root / "src/cpu/tuned/forward_f32.cc")])
    for part in ("src", "include"):
      entry = entry.replace(str(root / part), str(copy / part))
    _, passed, output = check(json.loads(entry), root, clang_tidy, copy)
  if passed or "tuned/forward-inl.h" not in output or "bugprone-integer-division" not in output:
    raise SystemExit(f"the fault in a kernel's header was not found:\n{output}")
  print("the fault was found")


def main():
  if sys.argv[1] == "--self-test":
    self_test(pathlib.Path(sys.argv[2]).resolve(), pathlib.Path(sys.argv[3]), sys.argv[4])
    return 0
  root, build, clang_tidy, cache = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4])
  cache.mkdir(parents=True, exist_ok=True)
  entries = entries_of(root, build)
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
