"""Threads for what takes time: few, as the machine has few cores and photographs take memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

P = ParamSpec("P")
T = TypeVar("T")
UPLOADS = 8  # bodies of `guard.MAX_BODY` that are held at once
_OTHERS = 4


class Work:
    """Runs blocking functions beside the event loop.

    Looking at a photograph keeps a core busy and may take 150 MB decoded, so there are no more of
    them at once than cores. What only asks the vault or the log does not wait behind them.
    """

    def __init__(self) -> None:
        self._photographs = anyio.CapacityLimiter(os.cpu_count() or 1)
        self._others = anyio.CapacityLimiter(_OTHERS)
        self.uploads = anyio.Semaphore(UPLOADS)

    async def photographs(
        self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """Return what a function gives that looks at photographs."""
        call = partial(function, *arguments, **named)
        return await anyio.to_thread.run_sync(call, limiter=self._photographs)

    async def other(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Return what a function gives that waits for the disk."""
        call = partial(function, *arguments, **named)
        return await anyio.to_thread.run_sync(call, limiter=self._others)
