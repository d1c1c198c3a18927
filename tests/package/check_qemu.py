#!/usr/bin/env python3
"""The golden digests on emulated 64-bit Arm.

  check_qemu.py ISONORM CPU TARGET...

Runs `isonorm verify` under qemu-aarch64 on that CPU model. The TARGETs must be exactly those that isonorm finds there besides
NEON and reference (NEON itself is run where it is the best), each must really run, and each must pass every case of the golden file.
"""
import sys

from run import run_json


def main():
  program, cpu, *wanted = sys.argv[1:]
  qemu = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", cpu, program, "--json"]
  known_elsewhere = {"reference"} if wanted == ["NEON"] else {"reference", "NEON"}
  found = [target for target in run_json(*qemu, "list")["targets"] if target not in known_elsewhere]
  if sorted(found) != sorted(wanted):
    raise SystemExit(f"on {cpu} isonorm finds {found}; this test expects {wanted}")
  options = [part for target in wanted for part in ("--target", target)]
  result = run_json(*qemu, "verify", "--quick", *options)
  if [entry["target"] for entry in result["targets"]] != wanted:
    raise SystemExit(f"verify ran {[entry['target'] for entry in result['targets']]} instead of {wanted}")
  for entry in result["targets"]:
    if not entry["passed"] or entry["cases"] == 0 or entry["mismatches"] != 0:
      raise SystemExit(f"{cpu}: {entry}")
    print(f"{cpu}: {entry['target']}: {entry['cases']} cases, {entry['calls']} calls, {entry['digests']} digests as specified")


if __name__ == "__main__":
  main()
