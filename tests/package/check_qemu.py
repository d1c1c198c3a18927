#!/usr/bin/env python3
"""The golden digests on emulated 64-bit Arm.

  check_qemu.py [--wrong-digest GOLDEN] ISONORM CPU TARGET...

Runs `isonorm verify --quick` under qemu-aarch64 on that CPU model. The TARGETs must be exactly those that isonorm finds there
besides NEON and reference (NEON itself is run where it is the best), each must really run, and each must pass every case of
the golden file; one that is written TARGET:PATTERN those whose names match. With --wrong-digest, one digest of that golden file
is changed, and exactly its case must be reported.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from run import run_json


def check(qemu, cpu, wanted):
  patterns = dict((word.split(":") + ["*"])[:2] for word in wanted)
  known_elsewhere = {"reference"} if list(patterns) == ["NEON"] else {"reference", "NEON"}
  found = [target for target in run_json(*qemu, "list")["targets"] if target not in known_elsewhere]
  if sorted(found) != sorted(patterns):
    raise SystemExit(f"on {cpu} isonorm finds {found}; this test expects {list(patterns)}")
  for target, pattern in patterns.items():
    entries = run_json(*qemu, "verify", "--quick", "--target", target, "--case", pattern)["targets"]
    if [entry["target"] for entry in entries] != [target]:
      raise SystemExit(f"verify ran {[entry['target'] for entry in entries]} instead of {target}")
    (entry,) = entries
    if not entry["passed"] or entry["cases"] == 0 or entry["mismatches"] != 0:
      raise SystemExit(f"{cpu}: {entry}")
    print(f"{cpu}: {target}: {entry['cases']} cases, {entry['calls']} calls, {entry['digests']} digests as specified")


def with_one_wrong_digest(golden):
  """The text of the golden file with one bit of one y changed, and the case's name."""
  lines = golden.splitlines()
  header = next(i for i, line in enumerate(lines) if not line.startswith("#"))
  column = lines[header].split("\t").index("y")
  at, cells = next((i, line.split("\t")) for i, line in enumerate(lines)
                   if i > header and line.split("\t")[column] != "-")
  cells[column] = f"{int(cells[column], 16) ^ 1:016x}"
  lines[at] = "\t".join(cells)
  return "\n".join(lines) + "\n", cells[0]


def check_that_a_wrong_digest_is_seen(qemu, golden, wanted):
  text, case = with_one_wrong_digest(pathlib.Path(golden).read_text())
  with tempfile.TemporaryDirectory() as folder:
    wrong = pathlib.Path(folder) / "wrong.tsv"
    wrong.write_text(text)
    for target in wanted:
      command = [*qemu, "verify", "--quick", "--golden", wrong, "--case", f"{case[:-1]}*", "--target", target]
      result = subprocess.run(command, capture_output=True, text=True, check=False)
      if result.returncode != 1:
        raise SystemExit(f"{target}: exit status {result.returncode} instead of 1\n{result.stdout}{result.stderr}")
      seen = {(mismatch["case"], mismatch["output"]) for mismatch in json.loads(result.stdout)["targets"][0]["first"]}
      if seen != {(case, "y")}:
        raise SystemExit(f"{target}: the mismatches are of {sorted(seen)} instead of y of {case}")
      print(f"{target}: the wrong digest of {case} was seen")


def main():
  arguments = sys.argv[1:]
  golden = None
  if arguments[0] == "--wrong-digest":
    golden = arguments[1]
    arguments = arguments[2:]
  program, cpu, *wanted = arguments
  qemu = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", cpu, program, "--json"]
  if golden is None:
    check(qemu, cpu, wanted)
  else:
    check_that_a_wrong_digest_is_seen(qemu, golden, wanted)


if __name__ == "__main__":
  main()
