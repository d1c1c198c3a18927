#!/usr/bin/env python3
"""Real activations, through the command line, on every target: the digests must be those of data/minilm-digests.txt.

  check_minilm.py ISONORM DATA WORK

The same as scripts/demo: layer_norm of the shipped f32 activations, then torch and llama of what that gives, in bf16, and
layer_norm quantised to e4m3 with its scales. A target that was named but did not run is a failure.
"""
import pathlib
import sys

from run import run_json


def apply(isonorm, source, output, target, *options):
  result = run_json(isonorm, "--json", "apply", source, "-o", output, "--force", "--digest", "--tensor", "*.input", "--target", target,
                    *options)
  for tensor in result["tensors"]:
    if not tensor["kernel"].endswith("@" + target):
      raise SystemExit(f"{tensor['name']} ran on {tensor['kernel']}, not on {target}")
  scales = [tensor["scale"] for tensor in result["tensors"] if "scale" in tensor]
  return {tensor["name"]: tensor["digest"] for tensor in result["tensors"] + scales}


def check(isonorm, data, work, target):
  activations = data / "minilm-activations.safetensors"
  layer = ["--contract", "layer_norm", "--eps", "1e-12", "--weight", "{prefix}.weight", "--bias", "{prefix}.bias"]
  rms = ["--eps", "1e-6", "--weight-file", activations, "--weight", "{prefix}.weight"]
  found = {"layer_norm": apply(isonorm, activations, work / "f32.safetensors", target, *layer)}
  apply(isonorm, activations, work / "bf16.safetensors", target, *layer, "--out-dtype", "bf16")
  found["e4m3"] = apply(isonorm, activations, work / "out.safetensors", target, *layer, "--out-dtype", "e4m3", "--scale-kind", "dynamic")
  for contract in ("torch", "llama"):
    found[contract] = apply(isonorm, work / "bf16.safetensors", work / "out.safetensors", target, "--contract", contract, *rms)
  return {f"{contract} {name}": digest for contract, tensors in found.items() for name, digest in tensors.items()}


def main():
  isonorm, data, work = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
  work.mkdir(parents=True, exist_ok=True)
  lines = (data / "minilm-digests.txt").read_text(encoding="utf-8").splitlines()
  expected = dict(line.rsplit(" ", 1) for line in lines)
  if len(expected) != 5 * 13:  # e4m3 has two for each tensor
    raise SystemExit(f"data/minilm-digests.txt holds {len(expected)} digests; {5 * 13} were expected")
  failed = False
  for target in run_json(isonorm, "--json", "list")["targets"]:
    found = check(isonorm, data, work, target)
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    print(f"{target}: {len(found)} digests, {len(wrong)} wrong", *wrong[:5], sep="\n  ")
    failed |= bool(wrong)
  return failed


if __name__ == "__main__":
  sys.exit(main())
