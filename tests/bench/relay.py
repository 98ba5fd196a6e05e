"""A TCP relay on loopback that counts what goes through it, TLS and all."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

_PIECE = 1 << 16


class Relay:
    """Hands every connection on to another port, in a thread of its own."""

    def __init__(self, port: int, to: int) -> None:
        """Listen on `port` of the loopback for whoever wants port `to`."""
        self.up = 0  # bytes from organisations to the coordinator
        self.down = 0
        self._to = to
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(port, ready), daemon=True)
        self._thread.start()
        ready.wait()

    def end(self) -> None:
        """Take no more; connections that are open end with the process."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, port: int, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        serving = asyncio.start_server(self._connected, "127.0.0.1", port)
        server = self._loop.run_until_complete(serving)
        ready.set()
        self._loop.run_forever()
        server.close()

    async def _connected(self, near: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            far, onward = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:  # nobody is there yet
            answer.close()
            return
        await asyncio.gather(
            self._pass_on(near, onward, is_up=True), self._pass_on(far, answer, is_up=False)
        )

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        with suppress(OSError):
            while piece := await source.read(_PIECE):
                if is_up:
                    self.up += len(piece)
                else:
                    self.down += len(piece)
                sink.write(piece)
                await sink.drain()
        sink.close()
