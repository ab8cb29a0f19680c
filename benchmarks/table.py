"""How a benchmark tells what it measured: one row a figure, with its goal where there is one."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table


class Figures:
    """Rows of one table."""

    def __init__(self, title: str) -> None:
        self._table = Table("what", "measured", "goal", "", title=title, title_justify="left")

    def add(self, what: str, measured: float, unit: str, most: float | None = None) -> None:
        """Add a figure that should be at most ``most``."""
        goal = "" if most is None else f"≤ {most:g} {unit}"
        verdict = "" if most is None else ("met" if measured <= most else "[red]missed[/red]")
        self._table.add_row(what, f"{measured:.3g} {unit}", goal, verdict)

    def add_least(self, what: str, measured: float, unit: str, least: float) -> None:
        """Add a figure that should be at least ``least``."""
        verdict = "met" if measured >= least else "[red]missed[/red]"
        self._table.add_row(what, f"{measured:.3g} {unit}", f"≥ {least:g} {unit}", verdict)

    def say(self, what: str, said: str) -> None:
        """Add a row without a goal, in words."""
        self._table.add_row(what, said)

    def show(self) -> None:
        """Print the table."""
        Console(width=110).print(self._table)


def times(full: int, quick: int) -> int:
    """How often, or how many: the full number, or a quick one where only the code is to be tried."""
    return quick if os.environ.get("BENCHMARKS_QUICK") == "1" else full


def paired(first: Callable[[], float], second: Callable[[], float], rounds: int) -> float:
    """The median of first ÷ second, measured in turn, so that a noisy machine hits both alike."""
    return statistics.median([first() / second() for _ in range(rounds)])


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)
