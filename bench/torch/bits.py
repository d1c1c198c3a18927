#!/usr/bin/env python3
"""How many values change when nothing should: PyTorch's norms and isonorm on the activations that the project ships.

  pip install torch numpy && cmake --preset release && cmake --build build --target isonorm
  bench/torch/bits.py            prints the table
  bench/torch/bits.py --write    writes it into README.md, and docs/bits.svg

Each row changes one circumstance and counts the values that differ: the instruction set, the number of threads, eager or compiled,
a row alone or in its batch. PyTorch chooses its instruction set when it starts, so every variant is a process of its own.
"""
import ctypes
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "data/minilm-activations.safetensors"
EPS = 1e-12  # the model's
BEGIN, END = "<!-- bits: begin -->\n", "<!-- bits: end -->\n"

# What a row of the table compares: words, output, and two variants of PyTorch and of isonorm.
ROWS = [
    ("AVX2 is not used (an older CPU): LayerNorm's output", "y", "avx2", "old"),
    ("a second thread: LayerNorm's dweight", "dweight", "avx2", "threads"),
    ("`torch.compile` instead of eager: RMSNorm's output", "rms_y", "avx2", "compiled"),
    ("a row of 65,536 alone instead of in its batch: RMSNorm's output", "wide_y", "threads", "alone"),
]
# Instruction set of PyTorch and of isonorm, threads, compiled, rows alone.
VARIANTS = {
    "avx2": ("avx2", "AVX2", 1, False, False),
    "old": ("default", "SSE4", 1, False, False),
    "threads": ("avx2", "AVX2", 2, False, False),
    "compiled": ("avx2", "AVX2", 1, True, False),
    "alone": ("avx2", "AVX2", 2, False, True),
}


def norms():
  """(x, weight, bias, dy) of every norm of the model."""
  raw = DATA.read_bytes()
  size = int.from_bytes(raw[:8], "little")
  header = json.loads(raw[8:8 + size])

  def tensor(name):
    begin, end = (8 + size + offset for offset in header[name]["data_offsets"])
    return np.frombuffer(raw[begin:end], np.float32).reshape(header[name]["shape"]).copy()

  random = np.random.default_rng(0)
  for name in sorted(name for name in header if name.endswith(".input")):
    x = tensor(name)
    yield x, tensor(name.replace(".input", ".weight")), tensor(name.replace(".input", ".bias")), random.standard_normal(x.shape, np.float32)


def wide_rows():
  return np.random.default_rng(1).standard_normal((64, 65536), np.float32)


# ------------------------------------------------------------------------------------------------------------ PyTorch


def by_torch(variant):
  import torch  # pylint: disable=import-outside-toplevel
  from torch.nn import functional as F  # pylint: disable=import-outside-toplevel
  _, _, threads, compiled, alone = VARIANTS[variant]
  torch.set_num_threads(threads)
  layer_norm, rms_norm = (torch.compile(f) if compiled else f for f in (F.layer_norm, F.rms_norm))
  out = {"y": [], "dweight": [], "rms_y": [], "wide_y": []}
  for x, weight, bias, dy in norms():
    x, weight, bias, dy = (torch.from_numpy(a) for a in (x, weight, bias, dy))
    weight.requires_grad_()
    y = layer_norm(x, x.shape[1:], weight, bias, EPS)
    out["y"].append(y.detach())
    out["dweight"].append(torch.autograd.grad(y, weight, dy)[0])
    out["rms_y"].append(rms_norm(x, x.shape[1:], weight, EPS).detach())
  wide = torch.from_numpy(wide_rows())
  for rows in wide.split(1) if alone else [wide]:
    out["wide_y"].append(F.rms_norm(rows, rows.shape[1:], None, EPS))
  return {name: torch.cat([a.flatten() for a in arrays]).numpy() for name, arrays in out.items()}, f"PyTorch {torch.__version__.split('+')[0]}"


# ------------------------------------------------------------------------------------------------------------ isonorm

POINTER, SIZE, I64, U32 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, ctypes.c_uint32
TASK = ctypes.CFUNCTYPE(None, POINTER, I64)
F32 = 0x00012002  # DLPack's code 2, 32 bits, 1 lane
CONTRACT_SIZE = 48
PARALLEL_FOR = ctypes.CFUNCTYPE(None, POINTER, I64, TASK, POINTER)


def structure(name, *fields):
  return type(name, (ctypes.Structure,), {"_fields_": list(fields)})


def pointers(names):
  return [(name, POINTER) for name in names.split()]


TENSOR = structure("Tensor", ("data", POINTER), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
                   ("dtype", U32), ("shape", POINTER), ("strides", POINTER), ("byte_offset", ctypes.c_uint64))
EXECUTOR = structure("Executor", ("struct_size", SIZE), ("concurrency", ctypes.c_int32), ("reserved", ctypes.c_int32),
                     ("context", POINTER), ("parallel_for", PARALLEL_FOR))
FORWARD = structure("Forward", ("struct_size", SIZE),
                    *pointers("x weight bias residual gate rope quantization scale y residual_out mean rstd"), ("groups", I64),
                    ("window", I64), ("workspace", POINTER), ("workspace_size", SIZE), *pointers("stream executor also"))
BACKWARD = structure("Backward", ("struct_size", SIZE),
                     *pointers("dy x weight bias residual residual_out gate rope mean rstd dresidual dx dweight dbias dgate"),
                     ("groups", I64), ("window", I64), ("flags", U32), ("reserved", U32), ("workspace", POINTER),
                     ("workspace_size", SIZE), *pointers("stream executor also"))


class Isonorm:
  """The few entry points that are needed here."""

  def __init__(self, target, threads):
    self.library = ctypes.CDLL(os.fspath(ROOT / "build/lib/libisonorm.so"))
    self.library.isonorm_last_error.restype = ctypes.c_char_p
    self.library.isonorm_version.restype = ctypes.c_char_p
    self.check(self.library.isonorm_set_target(target.encode()))
    self.parallel_for = PARALLEL_FOR(self.run_tasks)
    self.executor = EXECUTOR(ctypes.sizeof(EXECUTOR), threads, 0, None, self.parallel_for)

  @staticmethod
  def run_tasks(_, count, task, context):
    workers = [threading.Thread(target=task, args=(context, index)) for index in range(count)]
    for worker in workers:
      worker.start()
    for worker in workers:
      worker.join()

  def check(self, status):
    if status != 0:
      raise SystemExit(self.library.isonorm_last_error().decode())

  def call(self, function, contract, kind, **arrays):
    fields = ctypes.create_string_buffer(256)
    self.check(self.library.isonorm_contract_by_name(contract.encode(), fields, SIZE(CONTRACT_SIZE)))
    args, kept = kind(struct_size=ctypes.sizeof(kind), executor=ctypes.addressof(self.executor)), []
    for name, array in arrays.items():
      shape = (I64 * array.ndim)(*array.shape)
      tensor = TENSOR(array.ctypes.data, 1, 0, array.ndim, F32, ctypes.addressof(shape), None, 0)
      kept += [shape, tensor]
      setattr(args, name, ctypes.addressof(tensor))
    eps = ctypes.c_double(EPS)
    if kind is BACKWARD:
      size = SIZE()
      self.check(self.library.isonorm_backward_workspace(fields, eps, ctypes.byref(args), ctypes.byref(size)))
      workspace = ctypes.create_string_buffer(max(size.value, 1))
      args.workspace, args.workspace_size = ctypes.addressof(workspace) if size.value else None, size.value
    self.check(getattr(self.library, function)(fields, eps, ctypes.byref(args)))


def by_isonorm(variant):
  _, target, threads, _, alone = VARIANTS[variant]
  isonorm = Isonorm(target, threads)
  out = {"y": [], "dweight": [], "rms_y": [], "wide_y": []}
  for x, weight, bias, dy in norms():
    y, dweight, rms_y = np.empty_like(x), np.empty_like(weight), np.empty_like(x)
    isonorm.call("isonorm_forward", "layer_norm", FORWARD, x=x, weight=weight, bias=bias, y=y)
    isonorm.call("isonorm_backward", "layer_norm", BACKWARD, dy=dy, x=x, weight=weight, dweight=dweight)
    isonorm.call("isonorm_forward", "torch", FORWARD, x=x, weight=weight, y=rms_y)
    for name, array in (("y", y), ("dweight", dweight), ("rms_y", rms_y)):
      out[name].append(array)
  wide = wide_rows()
  for rows in np.split(wide, len(wide)) if alone else [wide]:
    y = np.empty_like(rows)
    isonorm.call("isonorm_forward", "torch", FORWARD, x=rows, y=y)
    out["wide_y"].append(y)
  version = isonorm.library.isonorm_version().decode()
  return {name: np.concatenate([a.ravel() for a in arrays]) for name, arrays in out.items()}, f"isonorm {version}"


# -------------------------------------------------------------------------------------------------------------- report


def run(library, variant, folder):
  """One variant in a process of its own: its outputs, and the library's name."""
  path = pathlib.Path(folder) / f"{library}-{variant}.npz"
  # Calls as small as these would stay on one thread.
  environment = os.environ | {"ATEN_CPU_CAPABILITY": VARIANTS[variant][0], "ISONORM_TASK_BYTES": "1"}
  words = subprocess.run([sys.executable, __file__, library, variant, path], env=environment, check=True, capture_output=True,
                         text=True).stdout
  return dict(np.load(path)), words.strip()


def picture(counts, names):
  """Bars of the share of values that change, as an SVG."""
  width, bar, left = 720, 18, 20
  lines = []
  for index, (words, values, torch_count, our_count) in enumerate(counts):
    top = 20 + 78 * index
    text = words.replace("`", "")
    lines.append(f'<text x="{left}" y="{top + 12}">{text}</text>')
    for row, (name, count, colour) in enumerate(((names[0], torch_count, "#c2410c"), (names[1], our_count, "#15803d"))):
      if count is None:
        continue
      y, length = top + 20 + row * (bar + 4), 380 * count / values
      lines.append(f'<rect x="{left + 130}" y="{y}" width="{max(length, 1):.1f}" height="{bar}" fill="{colour}"/>')
      lines.append(f'<text x="{left}" y="{y + 14}">{name}</text>')
      share = 100 * count / values
      lines.append(f'<text x="{left + 138 + length:.1f}" y="{y + 14}">{count:,} of {values:,} values ({share:.0f} %)</text>')
  height = 20 + 78 * len(counts)
  return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
          'font-family="sans-serif" font-size="14">\n<title>Values that change</title>\n'
          f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n<g fill="#1f2937">\n' + "\n".join(lines) + "\n</g>\n</svg>\n")


def main():
  if len(sys.argv) == 4:
    library, variant, path = sys.argv[1:]
    arrays, name = (by_torch if library == "torch" else by_isonorm)(variant)
    np.savez(path, **arrays)
    print(name)
    return
  results, names = {}, {}
  with tempfile.TemporaryDirectory() as folder:
    for library in ("torch", "isonorm"):
      for variant in VARIANTS:
        if library == "torch" or variant != "compiled":  # isonorm has nothing to compile
          results[library, variant], names[library] = run(library, variant, folder)
  counts = []
  for words, output, one, other in ROWS:
    changed = [int((results[library, one][output] != results[library, other][output]).sum()) if (library, other) in results else None
               for library in ("torch", "isonorm")]
    counts.append((words, results["torch", one][output].size, *changed))
  table = f"| what changes | values | {names['torch']} | {names['isonorm']} |\n| --- | ---: | ---: | ---: |\n"
  table += "".join(f"| {words} | {values:,} | {theirs:,} | {'–' if ours is None else f'{ours:,}'} |\n"
                   for words, values, theirs, ours in counts)
  print(table, end="")
  if sys.argv[1:] == ["--write"]:
    readme = ROOT / "README.md"
    head, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    readme.write_text(head + BEGIN + table + END + rest.split(END)[1], encoding="utf-8")
    (ROOT / "docs/bits.svg").write_text(picture(counts, (names["torch"], names["isonorm"])), encoding="utf-8")


if __name__ == "__main__":
  main()
