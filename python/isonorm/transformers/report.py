"""What `patch` did."""

from __future__ import annotations

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Row:
    """One norm of a model: the name of the module, its class, the contract that its source is, and why it was skipped.

    >>> import isonorm.transformers
    >>> isonorm.transformers.Row("norm", "LlamaRMSNorm", "llama").swapped
    True
    """

    name: str
    class_name: str
    contract: str
    reason: str = ""

    @property
    def swapped(self) -> bool:
        """Whether isonorm computes it, or, in a dry run, would."""
        return not self.reason


@dataclasses.dataclass(frozen=True)
class Report:
    """The norms of a model, in its order; prints as a table, where layers that are alike share a line.

    Its length is the number of modules swapped, and it is false where none was.

        >>> import torch, isonorm.transformers
        >>> print(isonorm.transformers.patch(torch.nn.RMSNorm(8), dry_run=True))
        module       number  class    contract  result
        (the model)  1       RMSNorm  torch     would be swapped
        1 would be swapped, 0 skipped
    """

    rows: tuple[Row, ...]
    dry_run: bool = False

    @property
    def swapped(self) -> list[Row]:
        """The modules that isonorm computes, or, in a dry run, would."""
        return [row for row in self.rows if row.swapped]

    @property
    def skipped(self) -> list[Row]:
        """The modules that were left as they are; `reason` says why."""
        return [row for row in self.rows if not row.swapped]

    def __len__(self) -> int:
        return len(self.swapped)

    def __str__(self) -> str:
        alike: dict[tuple[str, str, str, str], list[str]] = {}
        for row in self.rows:
            pattern = re.sub(r"(?<![^.])\d+(?![^.])", "*", row.name)
            alike.setdefault((pattern, row.class_name, row.contract, row.reason), []).append(row.name)
        table = [("module", "number", "class", "contract", "result")]
        for (pattern, class_name, contract, reason), names in alike.items():
            name = names[0] if len(names) == 1 else pattern
            done = "would be swapped" if self.dry_run else "swapped"
            what = f"skipped: {reason}" if reason else done
            table.append((name or "(the model)", str(len(names)), class_name, contract, what))
        widths = [max(len(line[column]) for line in table) for column in range(5)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
        verb = "would be swapped" if self.dry_run else "swapped"
        return "\n".join([*lines, f"{len(self)} {verb}, {len(self.skipped)} skipped"])
