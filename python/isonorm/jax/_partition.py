"""The call of a handler, and what becomes of it where a program runs on several devices: rows that these divide stay where they
are, no array is gathered, and sums over rows are added up."""

from __future__ import annotations

import functools
import inspect
import math
from typing import Any, Callable, NamedTuple

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from isonorm.jax._formula import wide
from isonorm.jax._options import PER_ROW, VECTORS, Kind, Options, attributes, names, numbers

# With `overwrite`: the result that lies over an operand, if both are there and of one shape and type.
OVER = {"x": "y", "residual": "residual_out", "dy": "dx"}


class Operation(NamedTuple):
    """A call of a handler but for its arrays. Operands and results that are there are bits; an operand in per_item, and then
    every result, has a leading dimension of items, each a call of its own. dtypes: of the results that are there."""

    kind: Kind
    options: Options
    operands: int
    per_item: int
    results: int
    dtypes: tuple[Any, ...]

    @property
    def operand_names(self) -> list[str]:
        return names(self.kind.operands, self.operands)

    @property
    def result_names(self) -> list[str]:
        return names(self.kind.results, self.results)

    @property
    def item_names(self) -> list[str]:
        return names(self.kind.operands, self.per_item)

    def of_result(self, name: str, rows: tuple[Any, ...], last: Any = None) -> tuple[Any, ...]:
        """The sizes of a result, or what stands for them, from those of x."""
        if name in VECTORS:
            return (*rows[:1], rows[-1]) if self.per_item else rows[-1:]
        if name == "scale":
            group = self.options.quantized.group_cols
            return (*rows[:-1], rows[-1] // group if last is None else last) if group else rows[:-1]
        if name in PER_ROW:
            return (*rows[:-1], self.options.groups if last is None else last) if self.options.groups > 1 else rows[:-1]
        return rows

    def of_operand(self, name: str, ndim: int, rows: tuple[Any, ...], last: Any = None) -> tuple[Any, ...]:
        """The same of an operand with so many dimensions; `last` stands for those that x does not have."""
        own = name in self.item_names
        item = rows[:1] if own else ()
        if name in VECTORS:
            return (*item, rows[-1])
        if name in ("cos", "sin"):
            return (*item, last, last)
        if name == "positions":
            lead = rows[1:] if self.per_item else rows
            return (*item, *lead[: ndim - len(item)])
        return self.of_result(name, rows, last)


def call(operation: Operation, *args: Any) -> list[Any]:
    """Calls the handler for arrays of one device."""
    shape = args[0].shape
    results = [
        jax.ShapeDtypeStruct(operation.of_result(name, shape), dtype)
        for name, dtype in zip(operation.result_names, operation.dtypes)
    ]
    # XLA copies an operand first that is read elsewhere or belongs to the caller.
    over: dict[int, int] = {}
    for name, result in OVER.items() if operation.options.overwrite else ():
        if name in operation.operand_names and result in operation.result_names:
            i, j = operation.operand_names.index(name), operation.result_names.index(result)
            if (args[i].shape, args[i].dtype) == (results[j].shape, results[j].dtype):
                over[i] = j
    told = attributes(*numbers(operation.options, operation.operands, operation.results, operation.per_item))
    found = jax.ffi.ffi_call(operation.kind.target, results, input_output_aliases=over)(*args, **told)
    return list(found)


@functools.lru_cache(maxsize=None)
def partitioned(operation: Operation, ranks: tuple[int, ...]) -> Callable[..., list[Any]]:
    """`call` that knows how to be divided among devices, for operands of so many dimensions."""

    def kept(spec: tuple[Any, ...]) -> tuple[Any, ...]:
        """Of the sharding of rows what can stay: not that of columns, nor that of a dimension whose indices are positions."""
        o = operation.options
        whole = {len(spec) - 1}
        if o.style and "positions" not in operation.operand_names:
            whole.add(o.position_dim + bool(operation.per_item))
        return tuple(None if i in whole else entry for i, entry in enumerate(spec))

    def divided(spec: tuple[Any, ...], rows: Any) -> tuple[Any, ...]:
        """XLA pads a dimension that its devices do not divide with whatever there is. Rows of that kind are cut off again, but sums
        must not see them, nor a handler their positions: those have such a dimension whole."""
        if not VECTORS.intersection(operation.result_names) and "positions" not in operation.operand_names:
            return spec
        mesh = rows.sharding.mesh

        def devices(entry: Any) -> int:
            return math.prod(mesh.shape[axis] for axis in ((entry,) if isinstance(entry, str) else entry or ()))

        return tuple(None if size % devices(entry) else entry for size, entry in zip(rows.shape, spec))

    def rows_of(arguments: Any) -> tuple[Any, ...]:
        if not isinstance(arguments[0].sharding, NamedSharding):
            raise ValueError("isonorm.jax knows how rows are divided only by a jax.sharding.NamedSharding")
        spec = tuple(arguments[0].sharding.spec)
        return divided(kept(spec + (None,) * (ranks[0] - len(spec))), arguments[0])

    def results_of(mesh: Any, rows: tuple[Any, ...]) -> list[NamedSharding]:
        specs = [tuple(operation.of_result(name, rows, ())) for name in operation.result_names]
        return [NamedSharding(mesh, PartitionSpec(*(None if entry == () else entry for entry in s))) for s in specs]

    def infer(mesh: Any, arguments: Any, _: Any) -> list[NamedSharding]:
        return results_of(mesh, rows_of(arguments))

    def partition(mesh: Any, arguments: Any, _: Any) -> Any:
        rows = rows_of(arguments)
        operands = []
        for name, ndim in zip(operation.operand_names, ranks):
            spec = operation.of_operand(name, ndim, rows, ())
            operands.append(NamedSharding(mesh, PartitionSpec(*(None if entry == () else entry for entry in spec))))
        axes: list[str] = []
        for entry in rows[bool(operation.per_item) :]:
            axes += (entry,) if isinstance(entry, str) else entry or ()

        def on_a_device(*args: Any) -> list[Any]:
            summed = [name in VECTORS and bool(axes) for name in operation.result_names]
            dtypes = tuple(wide(args[0].dtype) if s else dtype for s, dtype in zip(summed, operation.dtypes))
            found = call(operation._replace(dtypes=dtypes), *args)
            return [
                jax.lax.psum(result, tuple(axes)).astype(dtype) if s else result
                for s, result, dtype in zip(summed, found, operation.dtypes)
            ]

        return mesh, on_a_device, results_of(mesh, rows), tuple(operands)

    def rule() -> tuple[str, tuple[str, ...]]:
        """The same for Shardy: equal letters are equal dimensions."""
        rows = tuple(f"r{i}" for i in range(ranks[0] - 1)) + ("c",)
        extra = iter(range(100))
        whole: list[str] = []

        def text(entries: tuple[Any, ...]) -> str:
            words = []
            for entry in entries:
                if entry == "*":
                    entry = f"t{next(extra)}"
                    whole.append(entry)
                words.append(entry)
            return " ".join(words)

        operands = [text(operation.of_operand(n, ndim, rows, "*")) for n, ndim in zip(operation.operand_names, ranks)]
        results = [text(operation.of_result(name, rows, "*")) for name in operation.result_names]
        whole += [r for r, entry in zip(rows, kept(rows)) if entry is None]
        text_of_all = f"{', '.join(operands)} -> {', '.join(results)}"
        order = text_of_all.replace(",", " ").split()
        return text_of_all, tuple(sorted(whole, key=order.index))

    function = custom_partitioning(functools.partial(call, operation))
    sharding_rule, whole = rule()
    # Before jax 0.8 the rule cannot say which dimensions stay whole; `partition` does.
    known = inspect.signature(function.def_partition).parameters
    factors: Any = {"need_replication_factors": whole} if "need_replication_factors" in known else {}
    function.def_partition(
        partition=partition, infer_sharding_from_operands=infer, sharding_rule=sharding_rule, **factors
    )
    return function  # type: ignore[no-any-return]
