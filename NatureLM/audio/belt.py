"""A stretch of a stream kept in memory: blocks come on at the end, what lies behind is let go.

Knows numbers of samples only. Memory is what is kept, however long the stream.
"""

from __future__ import annotations

from collections import deque

import numpy as np


class Belt:
    """The samples from ``first`` to ``end`` of a stream.

    Attributes:
        first: Number of the first sample that may still be taken.
        end: Number of the sample after the last that has come.
    """

    def __init__(self, dtype: str) -> None:
        self.first = self.end = 0
        self._dtype = dtype
        self._parts: deque[tuple[int, np.ndarray]] = deque()

    def append(self, block: np.ndarray) -> None:
        """Add the next samples of the stream."""
        if len(block) and self.end + len(block) > self.first:
            self._parts.append((self.end, block))
        self.end += len(block)

    def take(self, first: int, end: int) -> np.ndarray:
        """Copy samples; what has not come, or was let go, is left out."""
        pieces = [
            block[max(0, first - at) : max(0, end - at)]
            for at, block in self._parts
            if at < end and at + len(block) > first
        ]
        return np.concatenate(pieces).astype(self._dtype) if pieces else np.zeros(0, self._dtype)

    def let_go(self, first: int) -> None:
        """Keep nothing before a sample; it may lie ahead of what has come."""
        self.first = max(self.first, first)
        while self._parts and self._parts[0][0] + len(self._parts[0][1]) <= self.first:
            self._parts.popleft()
