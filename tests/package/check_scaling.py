#!/usr/bin/env python3
"""docs/scaling.md and its picture have what bench/scaling computes, its formulas count what ranks do, and its text says what follows.

  check_scaling.py ROOT
"""
import importlib.util
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(ROOT / "bench/scaling"))
import model  # noqa: E402
import tables  # noqa: E402


def load(path):
  spec = importlib.util.spec_from_file_location("scaling", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def counted(ranks, partners):
  """Steps until every rank has the blocks of all, and the blocks that each receives; partners(step, rank) sends to rank what it has, or
  the last block it got."""
  held, last, steps = [{rank} for rank in range(ranks)], [{rank} for rank in range(ranks)], 0
  received = [0] * ranks
  while any(len(blocks) < ranks for blocks in held):
    sent = [set(last[partners(steps, rank)[0]] if partners(steps, rank)[1] else held[partners(steps, rank)[0]]) for rank in range(ranks)]
    for rank, blocks in enumerate(sent):
      assert not blocks & held[rank], "a block is sent twice"
      held[rank] |= blocks
      received[rank] += len(blocks)
    last, steps = sent, steps + 1
  assert len(set(received)) == 1
  return steps, received[0]


def check_formulas():
  for ranks in (2, 4, 8, 16):
    assert counted(ranks, lambda step, rank: ((rank - 1) % ranks, True)) == (model.ring_steps(ranks), ranks - 1)
    assert counted(ranks, lambda step, rank: (rank ^ 1 << step, False)) == (model.doubling_steps(ranks), ranks - 1)
  # Either side rounds some ten times to float64.
  near = lambda one, other: abs(one - other) <= 12 * 2.0**-53 * other  # noqa: E731
  # By hand: 8 ranks on NVLink 4 with 4096 bytes each, by LL; and 64 MiB each, by Simple.
  by_hand = 6.6 + 7 * 0.6 + 7 * 4096 / 225e3
  assert near(model.scalars(model.NVLINK4, 1024, 8), by_hand)
  by_hand = 8.4 + 7 * 3.4 + 7 * (64 << 20) / 450e3
  assert near(model.activations(model.NVLINK4, 32768, 8192, 8), by_hand)
  for link, ranks in tables.SPLITS:
    rows = model.hidden_from(link, tables.WIDTH, ranks)
    assert model.scalars(link, rows, ranks) <= model.gemm(link, rows, tables.WIDTH, ranks)
    assert model.scalars(link, rows - 1, ranks) > model.gemm(link, rows - 1, tables.WIDTH, ranks)


def check_words():
  """What the text says beside the tables."""
  for link, ranks in tables.SPLITS:
    for rows, least in ((tables.ROWS, 20), (tables.DECODE, 2)):  # "a twentieth of the pair", "a half"
      assert model.pair(link, rows, tables.WIDTH, ranks) >= least * model.scalars(link, rows, ranks)
  for ranks in (1, 8, 16):  # "at most three times what the quicker all-reduce does"
    cols, replicas = tables.NORMS * tables.WIDTH // ranks, tables.GPUS // ranks
    doubled, reduced = (of(model.NDR, cols, replicas) for of in (model.doubled_gradients, model.all_reduced_gradients))
    assert reduced < doubled <= 3 * reduced < model.gathered_gradients(model.NDR, cols, replicas)


def check_page():
  script = load(ROOT / "bench/scaling/__main__.py")
  page, drawing = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("scaling.md", "scaling.svg"))
  found = script.stale(page, drawing)
  assert not found, f"{found} is not what bench/scaling computes: run `python3 bench/scaling --write`"
  # Any digit of a block, any curve, any number that goes in.
  blocks = [match.span(1) for match in re.finditer(r"<!-- scaling: \w+ -->\n(.*?)<!-- end -->", page, re.DOTALL)]
  assert len(blocks) == len(tables.BLOCKS)
  for begin, end in blocks:
    at = begin + re.search(r"\d", page[begin:end]).start()
    assert script.stale(page[:at] + str((int(page[at]) + 1) % 10) + page[at + 1:], drawing) == ["docs/scaling.md"]
  assert script.stale(page, drawing.replace("L", "M", 1)) == ["docs/scaling.svg"]
  for numbers, key in ((model.CALL, "LL"), (model.NVLINK, "Simple"), (model.NETWORK, "LL")):
    old = numbers[key]
    numbers[key] = 2 * old
    assert script.stale(page, drawing) == ["docs/scaling.md", "docs/scaling.svg"]
    numbers[key] = old
  model.MEASURED["split"] *= 2
  assert script.stale(page, drawing) == ["docs/scaling.md"]


if __name__ == "__main__":
  check_formulas()
  check_words()
  check_page()
  print("docs/scaling.md has what bench/scaling computes, and whatever is changed in it is seen")
