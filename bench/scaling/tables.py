"""The blocks of docs/scaling.md that are computed, as Markdown."""

from typing import Sequence

import model
from model import NDR, NVLINK4, NVLINK5, PCIE5

WIDTH, ROWS, DECODE = 8192, 8192, 64
SPLITS = ((NVLINK5, 16), (NVLINK4, 8), (PCIE5, 8), (NDR, 16))
NORMS, PARAMETERS, GPUS = 161, 70e9, 1024  # as Llama 3 70B has them: two norms in each of 80 layers, and the last


def digits(value: float) -> str:
    """With three digits."""
    return f"{value:.3g}" if value < 1000 else f"{float(f'{value:.3g}'):,.0f}"


def span(us: float) -> str:
    return f"{digits(us)} µs" if us < 1000 else f"{digits(us / 1e3)} ms"


def size(count: float) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{digits(count / unit)} {name}"
    return f"{count:.0f} B"


def table(head: str, align: str, rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (head.split(" | "), align.split(), *rows))


def inputs() -> str:
    steps = lambda link: f"{link.step['LL']:g} and {link.step['Simple']:g} µs"  # noqa: E731
    rows = [(link.name, f"{link.speed:g} GB/s", steps(link), str(link.most), f"{link.tflops:,.1f} TFLOP/s") for link in model.LINKS]
    text = table("link | speed, one direction | a step, LL and Simple | joins at most | bf16 of a GPU", "--- ---: ---: ---: ---:", rows)
    return f"{text}\nA call takes {model.CALL['LL']:g} µs by LL and {model.CALL['Simple']:g} µs by Simple before its first step.\n"


def sizes() -> str:
    rows = []
    for ranks in (2, 4, 8, 16):
        sent, whole = model.SCALAR * ROWS * (ranks - 1), model.BF16 * ROWS * WIDTH * (ranks - 1) / ranks
        rows.append((str(ranks), size(sent), size(4 * sent), size(whole), size(2 * whole), size(2 * whole / ranks), f"{2 * whole / sent:,.0f}"))
    head = (
        "ranks | RMSNorm, forward or backward | LayerNorm, forward | activations gathered | sequence parallel | two all-to-alls | "
        "sequence parallel, times RMSNorm's"
    )
    return table(head, "---: ---: ---: ---: ---: ---: ---:", rows)


def times() -> str:
    rows = []
    for link, ranks in SPLITS:
        for count in (DECODE, ROWS):
            ring, pair = model.scalars(link, count, ranks), model.pair(link, count, WIDTH, ranks)
            doubling = model.scalars(link, count, ranks, model.doubling_steps)
            layer = 2 * model.scalars(link, count, ranks, values=2)
            gathered = model.activations(link, count, WIDTH, ranks)
            found = (span(time) for time in (ring, doubling, layer, gathered, pair))
            rows.append((link.name, str(ranks), f"{count:,}", *found, digits(pair / ring)))
    head = "link | ranks | rows | RMSNorm, ring | RMSNorm, doubling | LayerNorm, ring | activations gathered | sequence parallel | times RMSNorm's"
    return table(head, "--- ---: ---: ---: ---: ---: ---: ---: ---:", rows)


def hidden() -> str:
    rows = []
    for link, ranks in SPLITS:
        share = model.scalars(link, ROWS, ranks) / model.gemm(link, ROWS, WIDTH, ranks)
        fewest = [f"{model.hidden_from(link, WIDTH, ranks, steps):,}" for steps in (model.ring_steps, model.doubling_steps)]
        rows.append((link.name, str(ranks), span(model.gemm(link, ROWS, WIDTH, ranks)), *fewest, f"{100 * share:.0f} %"))
    head = f"link | ranks | GEMM of {ROWS:,} rows, at least | hides from, ring | from, doubling | exchange of {ROWS:,} rows by a ring"
    return table(head, "--- ---: ---: ---: ---: ---:", rows)


def gpus() -> str:
    rows = []
    for link, ranks in ((NVLINK4, 1), (NVLINK4, 8), (NVLINK5, 16)):
        replicas, cols = GPUS // ranks, NORMS * WIDTH // ranks
        spent = ["none", "none"]
        if ranks > 1:
            spent = [span(2 * NORMS * of) for of in (model.scalars(link, ROWS, ranks), model.pair(link, ROWS, WIDTH, ranks))]
        gemms = 6 * PARAMETERS * ROWS / ranks / (link.tflops * 1e6)
        gradients = [model.gathered_gradients, model.doubled_gradients, model.all_reduced_gradients]
        found = [span(of(NDR, cols, replicas)) for of in gradients]
        rows.append((f"{ranks} × {replicas}", link.name if ranks > 1 else "", *spent, *found, span(gemms)))
    head = "columns × rows | columns by | norms | sequence parallel | dweight, all parts | dweight, doubling | all-reduce | GEMMs"
    return table(head, "---: --- ---: ---: ---: ---: ---: ---:", rows)


def measured() -> str:
    found = model.MEASURED
    rows, width, ranks = (int(found[name]) for name in ("rows", "width", "ranks"))
    bytes_ratio = model.BF16 * width / ranks / model.SCALAR
    lines = [
        (f"all-gather of a float32 for each of {rows:,} rows", span(found["scalars"])),
        (f"all-gather of the rows, {width:,} columns in bf16", span(found["activations"])),
        ("how many times as long, and as many bytes", f"{found['activations'] / found['scalars']:,.0f} and {bytes_ratio:,.0f}"),
        ("`partial` of a rank's columns", span(found["partial"])),
        ("norm of a rank's columns: `partial`, exchange, `finish`", span(found["split"])),
        ("the same columns as rows of their own, by `rms_norm`", span(found["alone"])),
        ("what the split adds", f"{100 * (found['split'] / found['alone'] - 1):.0f} %"),
    ]
    return table("two processes on one machine | ", "--- ---:", lines)


def summary() -> str:
    link, ranks = NVLINK4, 8
    ring, pair = model.scalars(link, ROWS, ranks), model.pair(link, ROWS, WIDTH, ranks)
    small, small_pair = model.scalars(link, DECODE, ranks), model.pair(link, DECODE, WIDTH, ranks)
    cols = NORMS * WIDTH
    return f"""\
- RMSNorm of rows whose {WIDTH:,} columns {ranks} GPUs share exchanges 1/{WIDTH // ranks:,} of the bytes of sequence parallel's pair, the
  reduce-scatter and the all-gather of bf16; one over the columns of a GPU (computed).
- On {link.name} that takes {span(ring)} for {ROWS:,} rows, the pair {span(pair)}; for {DECODE} rows, as in decoding, {span(small)} and {span(small_pair)} (computed).
- The exchange hides under a square GEMM of that width from {model.hidden_from(link, WIDTH, ranks):,} rows on (computed).
- dweight of all {NORMS} norms of such a model, over {GPUS:,} GPUs that have rows of their own, takes {span(model.doubled_gradients(NDR, cols, GPUS))} by
  recursive doubling, {span(model.gathered_gradients(NDR, cols, GPUS))} where all parts are gathered, and {span(model.all_reduced_gradients(NDR, cols, GPUS))} by an all-reduce, whose bits depend on the number of GPUs (computed).
- Between two processes of one machine the scalars took {span(model.MEASURED['scalars'])} and the rows {span(model.MEASURED['activations'])} (measured).
"""


BLOCKS = {block.__name__: block for block in (summary, inputs, sizes, times, hidden, gpus, measured)}
