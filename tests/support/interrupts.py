"""A signal at a chosen line: what its handler raises, or does, at the same place each time.

Owns: raising ``KeyboardInterrupt`` at the n-th line of a call, or doing something else there, and choosing
the lines. Does not own: what must hold afterwards (the tests).
"""

from __future__ import annotations

import dis
import functools
import os
import random
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from tests.soak import SOAK


class Interrupt:
    """Raises once, at a line that is executed while a certain function runs.

    Args:
        within: the function's name; what it calls counts too.
        at: how many lines to let pass; None for all.
        files: only lines of files whose path contains this count.
        act: is called there; what it returns from goes on. Raises by default.
    """

    def __init__(
        self,
        within: str,
        at: int | None = None,
        files: str = "",
        act: Callable[[], object] | None = None,
    ) -> None:
        self._act = act
        self.lines = 0
        self.where = ""
        """File, function and line of the interrupt; empty where there was none."""
        self._within = within
        self._at = at
        self._files = files
        self._inside: FrameType | None = None

    def run(self, call: Callable[[], object]) -> None:
        """Make the call, and swallow the interrupt. Other threads are left alone."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            call()
        except KeyboardInterrupt:
            if not self.where:
                raise
        finally:
            sys.settrace(before)
            self._inside = None  # it would keep alive what the call used

    def _enter(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        del event, argument
        if self._inside is None and frame.f_code.co_name == self._within:
            self._inside = frame
        counts = self._files in frame.f_code.co_filename
        return self._step if frame is self._inside or (self._inside and counts) else None

    def _step(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        del argument
        if event == "return" and frame is self._inside:
            self._inside = None
        elif event == "line" and self._inside is not None and not _leaves_a_block(frame):
            self.lines += 1
            if self.lines - 1 == self._at:
                code = frame.f_code
                self.where = f"{os.path.basename(code.co_filename)}:{frame.f_lineno} {code.co_name}"
                sys.settrace(None)
                if self._act is None:
                    raise KeyboardInterrupt
                self._act()
        return self._step


def _leaves_a_block(frame: FrameType) -> bool:
    """Whether the line is a ``with`` that is being left: Python runs no signal handler there."""
    return frame.f_lasti in _ends_of_blocks(frame.f_code)


@functools.cache
def _ends_of_blocks(code: CodeType) -> frozenset[int]:
    """Find where ``__exit__(None, None, None)`` begins, by the offsets of a code object."""
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("NOP", "SWAP")]
    windows = zip(steps, steps[1:], steps[2:], strict=False)
    return frozenset(
        start
        for three in windows
        if all(step.opname == "LOAD_CONST" and step.argval is None for step in three)
        for start in range(three[0].offset - 4, three[0].offset + 2, 2)
    )


def chosen_lines(count: int, few: int) -> list[int]:
    """Choose some of ``count`` lines, the same each time; all of them in ``make soak``."""
    if SOAK or count <= few:
        return list(range(count))
    return sorted(random.Random(few).sample(range(count), few))
