#!/usr/bin/env python3
"""What columns that two processes of gloo share cost, beside the local kernel and the exchange alone.

  PYTHONPATH=build/site bench/torch/ranks.py [ROWS COLS]

Each turn makes some calls of each kind, one after the other; those that exchange wait for the other process. Prints microseconds of a
call, the median and the mean, and how many times as long the split takes as the local kernel of a process's own columns with the
all-gathers that the split has. The means have the moments at which the system wakes a process late, which an all-gather of gloo meets in
one call of ten. `steps` are the operators and the all-gathers of the split, medians.
"""

import os
import statistics
import sys
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import isonorm.torch
from isonorm.torch import parallel
from isonorm.torch.parallel import _exchange, functional

EPS = 1e-6
STEPS = {
    "_forward": "partial", "_forward_finish": "finish", "gather": "all-gather", "_backward": "backward's partial",
    "_backward_finish": "backward's finish",
}  # fmt: skip


def timed(function, name, times):
  def run(*args):
    begin = time.perf_counter()
    result = function(*args)
    times.setdefault(name, []).append(time.perf_counter() - begin)
    return result

  return run


def measure(rank, ranks, path, rows, cols, turns, calls):
  os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank % os.cpu_count()]})
  torch.set_num_threads(1)
  dist.init_process_group("gloo", init_method=f"file://{path}/store", rank=rank, world_size=ranks)
  group, own = dist.group.WORLD, cols // ranks
  x, dy, weight = torch.randn(rows, own, requires_grad=True), torch.randn(rows, own), torch.ones(own, requires_grad=True)
  sent, received = torch.empty(rows + 1, 1), torch.empty(ranks * (rows + 1), 1)

  def forward(norm, **options):
    with torch.no_grad():
      norm(x, weight, eps=EPS, **options)

  def both(norm, **options):
    norm(x, weight, eps=EPS, **options).backward(dy)
    x.grad = weight.grad = None

  def gathers(count):
    for _ in range(count):
      _exchange.gather(received, sent, group)

  kinds = {
      "local forward": lambda: forward(isonorm.torch.rms_norm),
      "local forward, all-gather": lambda: (forward(isonorm.torch.rms_norm), gathers(1)),
      "split forward": lambda: forward(parallel.rms_norm, group=group),
      "local both": lambda: both(isonorm.torch.rms_norm),
      "local both, two all-gathers": lambda: (both(isonorm.torch.rms_norm), gathers(2)),
      "split both": lambda: both(parallel.rms_norm, group=group),
  }
  times = {name: [] for name in kinds}
  for turn in range(turns):
    for name, kind in kinds.items():
      kind()
      dist.barrier()
      for _ in range(calls):
        begin = time.perf_counter()
        kind()
        if turn > 0:
          times[name].append(time.perf_counter() - begin)
  steps = {}
  for attribute, name in STEPS.items():
    setattr(functional, attribute, timed(getattr(functional, attribute), name, steps))
  for _ in range(turns * calls):
    kinds["split both"]()
  if rank == 0:
    found = {name: (statistics.median(own), statistics.mean(own)) for name, own in times.items()}
    for name, (median, mean) in found.items():
      print(f"{name:28} {1e6 * median:7.0f} {1e6 * mean:7.0f}")
    for what, beside in (("forward", "local forward, all-gather"), ("both", "local both, two all-gathers")):
      ratios = [a / b for a, b in zip(found[f"split {what}"], found[beside])]
      print(f"split {what}, times {beside}: {ratios[0]:.2f}, mean {ratios[1]:.2f}")
    print("steps:", ", ".join(f"{name} {1e6 * statistics.median(found):.0f}" for name, found in steps.items()))
  dist.destroy_process_group()


def main():
  rows, cols, turns, calls = (*map(int, sys.argv[1:]), *(512, 4096, 40, 10)[len(sys.argv) - 1 :])
  with tempfile.TemporaryDirectory() as path:
    mp.start_processes(measure, args=(2, path, rows, cols, turns, calls), nprocs=2, start_method="fork")


if __name__ == "__main__":
  main()
