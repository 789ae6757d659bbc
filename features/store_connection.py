"""One connection to the online store that many reads share: each is written at once and answered in order.

redis-py's own client takes a connection from its pool for every command and reads it through a stream, which costs more
CPU than the rest of a request's reading does. It still makes the connection (address, TLS, authentication, database);
then its transport is handed to a protocol of a few lines around hiredis.
"""

import asyncio
from collections import deque
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as StoreDown
from redis.exceptions import ResponseError


class StoreConnection:
    """Asks the store; connects when it is first asked, and anew after a connection was lost. For one event loop."""

    def __init__(self, url: str) -> None:
        self._client: Any = Redis.from_url(url)
        self._connecting = asyncio.Lock()
        self._answers: _Answers | None = None

    async def ask(self, *command: bytes | str) -> Any:
        """Return the answer to a command; raises redis.RedisError when it is an error or the store is gone.

        Who stops waiting has the next ones ask over another connection: this one may be dead without anybody's word.
        """
        answers = self._answers
        if answers is None or answers.is_closed:
            answers = await self._connect()
        try:
            return await answers.to(hiredis.pack_command(command))  # type: ignore[arg-type]
        except asyncio.CancelledError:
            answers.retire()
            raise

    async def close(self) -> None:
        """Hang up."""
        if self._answers is not None:
            self._answers.hang_up()
        await self._client.aclose()

    async def _connect(self) -> "_Answers":
        async with self._connecting:
            if self._answers is None or self._answers.is_closed:
                self._answers = _Answers(await self._connection())
            return self._answers

    async def _connection(self) -> Any:
        connection, made = self._client.connection_pool.make_connection(), False
        try:
            await connection.connect()
            made = True
        finally:
            if not made:
                await connection.disconnect(nowait=True)
        return connection


class _Answers(asyncio.Protocol):
    """Takes a connection's transport over; answers come in the order in which commands were written."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection  # kept: its writer would close the transport in passing away
        self._transport = connection._writer.transport
        self._transport.set_protocol(self)
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self.is_closed = False

    def to(self, command: bytes) -> asyncio.Future[Any]:
        """Write a command and return the future of its answer."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._transport.write(command)
        return answer

    def retire(self) -> None:
        """Take no more commands; hang up once those written are answered or given up."""
        self.is_closed = True
        self._hang_up_if_idle()

    def hang_up(self) -> None:
        """Close at once; who waits is told."""
        self.is_closed = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Give the answers in `data` to those who wait."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            answer = self._waiting.popleft()
            if answer.done():  # nobody waits any more
                continue
            if isinstance(reply, hiredis.ReplyError):
                answer.set_exception(ResponseError(str(reply)))
            else:
                answer.set_result(reply)
        if self.is_closed:
            self._hang_up_if_idle()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell everybody who waits."""
        self.is_closed = True
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(StoreDown(f"the online store hung up: {error or 'connection closed'}"))

    def _hang_up_if_idle(self) -> None:
        if all(answer.done() for answer in self._waiting):
            self._transport.abort()
