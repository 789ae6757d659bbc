"""A small TCP proxy on loopback that can refuse, cut, stall and delay what goes through it."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

LOOPBACK = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends RST
_CHUNK = 65_536


class Proxy:
    """Forwards connections on `port` to `target`, a port on loopback that may open later."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self._target = port, target
        self._delay_s = 0.0
        self._open: set[asyncio.StreamWriter] = set()
        self._reachable = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{port}", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, LOOPBACK, port))

    def delay(self, seconds: float) -> None:
        """Hold what comes from either side for so long from now on; 0 = not at all."""
        self._delay_s = seconds

    def reset(self) -> int:
        """Reset every open connection; returns how many sockets that were."""
        return int(self._do(self._reset()))

    def refuse(self, refusing: bool) -> None:
        """Reset every new connection, and those that are open, while `refusing`."""
        self._reachable = not refusing
        if refusing:
            self.reset()

    def close(self) -> None:
        """End the proxy and all connections."""
        self.refuse(True)
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _reset(self) -> int:
        open_now = list(self._open)
        for writer in open_now:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        return len(open_now)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._reachable:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, far_writer}
        try:
            await asyncio.gather(self._forward(reader, far_writer), self._forward(far_reader, writer))
        finally:
            self._open -= {writer, far_writer}
            for one in (writer, far_writer):
                one.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                writer.write(data)
                await writer.drain()
        writer.close()
