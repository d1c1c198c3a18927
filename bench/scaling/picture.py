"""docs/scaling.svg: the curves of the model, three panels with logarithmic axes."""

import math
from typing import Callable, NamedTuple

import model
from model import NDR, NVLINK4
from tables import GPUS, NORMS, WIDTH

WIDE, WIDE_ROWS = 65536, 4096  # the widest row of docs/parallel.md, which 128 ranks can share
BLUE, ORANGE, GREEN, INK = "#0072b2", "#d55e00", "#009e73", "#1f2937"


class Line(NamedTuple):
    name: str
    style: str
    time: Callable[[int], float]


class Panel(NamedTuple):
    title: str
    note: str
    axis: str
    counts: list[int]
    low: int  # decades of the time axis, from 10^low to 10^high µs
    high: int
    lines: list[Line]


def powers(first: int, last: int) -> list[int]:
    return [1 << i for i in range(first, last + 1)]


def panels() -> list[Panel]:
    pair = lambda link, rows, width, ranks: model.pair(link, rows, width, ranks)  # noqa: E731
    return [
        Panel(
            "One norm by rows", f"8 GPUs, NVLink 4, {WIDTH:,} columns", "rows", powers(6, 15), 0, 4,
            [
                Line("sequence parallel's pair", f'stroke="{ORANGE}"', lambda n: pair(NVLINK4, n, WIDTH, 8)),
                Line("RMSNorm's exchange, ring", f'stroke="{BLUE}"', lambda n: model.scalars(NVLINK4, n, 8)),
                Line("a square GEMM at its peak", f'stroke="{INK}" stroke-dasharray="2 4"', lambda n: model.gemm(NVLINK4, n, WIDTH, 8)),
            ],
        ),
        Panel(
            "One norm by ranks", f"NDR, {WIDE_ROWS:,} rows of {WIDE:,} columns", "ranks", powers(1, 7), 0, 5,
            [
                Line("sequence parallel's pair", f'stroke="{ORANGE}"', lambda n: pair(NDR, WIDE_ROWS, WIDE, n)),
                Line("RMSNorm's exchange, ring", f'stroke="{BLUE}"', lambda n: model.scalars(NDR, WIDE_ROWS, n)),
                Line(
                    "the same, recursive doubling", f'stroke="{BLUE}" stroke-dasharray="6 4"',
                    lambda n: model.scalars(NDR, WIDE_ROWS, n, model.doubling_steps),
                ),
            ],
        ),
        Panel(
            "dweight of a step by processes", f"NDR, {NORMS} norms of {WIDTH:,} columns", "processes with rows of their own",
            powers(1, round(math.log2(GPUS))), 1, 6,
            [
                Line("all parts to all", f'stroke="{ORANGE}"', lambda n: model.gathered_gradients(NDR, NORMS * WIDTH, n)),
                Line(
                    "recursive doubling", f'stroke="{BLUE}" stroke-dasharray="6 4"',
                    lambda n: model.doubled_gradients(NDR, NORMS * WIDTH, n),
                ),
                Line("all-reduce: other bits", f'stroke="{GREEN}"', lambda n: model.all_reduced_gradients(NDR, NORMS * WIDTH, n)),
            ],
        ),
    ]  # fmt: skip


def picture() -> str:
    left, top, across, down, step = 88, 62, 250, 210, 330
    drawn = panels()
    width, height = step * len(drawn) + 34, top + down + 122
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="13"'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', "<title>What ranks pay for exchanging, computed</title>"]
    out.append(f'<rect width="{width}" height="{height}" fill="#ffffff"/>')

    def text(x: float, y: float, words: str, anchor: str = "start", more: str = "") -> None:
        out.append(f'<text x="{x:g}" y="{y:g}" fill="{INK}" text-anchor="{anchor}"{more}>{words}</text>')

    def path(points: str, style: str, thick: float) -> None:
        out.append(f'<path d="M{points}" fill="none" stroke-width="{thick:g}" {style}/>')

    text(-(top + down / 2), 18, "time, computed", "middle", ' transform="rotate(-90)"')
    for number, panel in enumerate(drawn):
        begin, first, last = number * step + left, panel.counts[0], panel.counts[-1]

        def x_of(count: int) -> float:
            return begin + across * math.log(count / first) / math.log(last / first)

        def y_of(time: float) -> float:
            return top + down * (panel.high - math.log10(time)) / (panel.high - panel.low)

        text(begin, 22, panel.title, more=' font-weight="bold" font-size="14"')
        text(begin, 44, panel.note, more=' font-size="12"')
        for decade in range(panel.low, panel.high + 1):
            y = y_of(10**decade)
            path(f"{begin} {y:.1f}h{across}", 'stroke="#e5e7eb"', 1)
            text(begin - 8, y + 4, f"{10**decade} µs" if decade < 3 else f"{10 ** (decade - 3)} ms" if decade < 6 else "1 s", "end")
        for index, count in enumerate(panel.counts):
            x = x_of(count)
            path(f"{x:.1f} {top + down}v5", 'stroke="#9ca3af"', 1)
            if index % 3 == 0:
                text(x, top + down + 20, f"{count:,}", "middle")
        path(f"{begin} {top}h{across}v{down}h-{across}z", 'stroke="#9ca3af"', 1)
        text(begin + across / 2, top + down + 40, panel.axis, "middle")
        for index, line in enumerate(panel.lines):
            path("L".join(f"{x_of(count):.1f} {y_of(line.time(count)):.1f}" for count in panel.counts), line.style, 2.5)
            y = top + down + 64 + 20 * index
            path(f"{begin} {y}h34", line.style, 2.5)
            text(begin + 42, y + 4, line.name)
    return "\n".join([*out, "</svg>\n"])
