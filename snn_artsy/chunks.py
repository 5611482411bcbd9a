"""Samples some at a time, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator

ROWS = 4096
"""Samples at a time. Sums over more than that can differ in their last bits if it changes."""


def chunks(n: int) -> Iterator[slice]:
    """Parts of ``n`` samples, in order."""
    return (slice(start, start + ROWS) for start in range(0, n, ROWS))
