"""Calls at a steady rate that nothing slows down: an open loop, on connections that are kept."""

from __future__ import annotations

import asyncio
import re
import threading
import urllib.parse
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

# A call that takes longer has failed: Envoy does not wait longer for the model.
PATIENCE = 60.0
# By so much may a call be sent too late. What was missed is made up for, so the rate holds over any longer time.
LATENESS = 1.0
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Calls:
    """What became of the calls with one credential. The status of a call without an answer is 0."""

    began: float
    ended: float = 0.0
    sent: int = 0
    lateness: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    # Of each answer, in seconds.
    times: list[float] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """In milliseconds; that of no answers is 0."""
        times = sorted(self.times) or [0.0]
        return times[min(len(times) - 1, int(len(times) * percent / 100))] * 1000

    def problem(self, status: int, rate: int) -> str | None:
        """What is wrong, where all calls should have got this status, and been sent at this rate."""
        due = (self.ended - self.began) * rate
        if self.statuses != {status: self.sent}:
            return f"of {self.sent} calls, not all got {status}: {dict(self.statuses)}"
        if abs(self.sent - due) > max(2, due / 100):
            return f"{self.sent} calls were sent, where the rate makes {due:.0f}"
        if self.lateness > LATENESS:
            return f"a call was sent {self.lateness:.1f} s late"
        return None


class Entrance:
    """An Envoy, and the connections to it that nobody uses at the moment."""

    def __init__(self, url: str) -> None:
        address = urllib.parse.urlsplit(url)
        self.host, self.port = address.hostname, address.port
        self.idle: deque[Connection] = deque()

    async def ask(self, request: bytes) -> int:
        """Sends it and reads all of the answer; returns the status."""
        reader, writer = await self.connection()
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(LENGTH.search(head)[1]))
        except BaseException:
            writer.close()
            raise
        self.idle.append((reader, writer))
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        for _, writer in self.idle:
            writer.close()

    async def connection(self) -> Connection:
        # The oldest first, so that none stays idle until Envoy closes it.
        while self.idle:
            reader, writer = self.idle.popleft()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self.host, self.port)


class Load:
    """Calls `rate` times a second, spread evenly over the entrances, for as long as the `with` block lasts."""

    def __init__(self, path: str, body: str, rate: int) -> None:
        self.path, self.body, self.rate = path, body, rate
        self.used: list[Calls] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.entrances: dict[str, Entrance] = {}
        self.calls: set[asyncio.Task[None]] = set()
        self.caller: asyncio.Task[None] | None = None

    def __enter__(self) -> Load:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def use(self, credential: str, urls: Sequence[str]) -> Calls:
        """From now on calls these with this. Returns when all calls with the one before have their answer."""
        return asyncio.run_coroutine_threadsafe(self.turn(credential, urls), self.loop).result()

    def pause(self) -> None:
        """Calls no more. Returns when all calls have their answer."""
        asyncio.run_coroutine_threadsafe(self.end(), self.loop).result()

    async def turn(self, credential: str, urls: Sequence[str]) -> Calls:
        entrances = [self.entrances.setdefault(url, Entrance(url)) for url in urls]
        before = self.stop_caller()
        calls = Calls(self.loop.time())
        self.used.append(calls)
        self.caller = self.loop.create_task(self.call(calls, self.request(credential), entrances))
        await before
        return calls

    async def end(self) -> None:
        await self.stop_caller()
        for entrance in self.entrances.values():
            entrance.close()

    def stop_caller(self) -> asyncio.Future[object]:
        """What is returned ends when all that was sent has its answer."""
        if self.caller:
            self.caller.cancel()
            self.used[-1].ended = self.loop.time()
            self.caller = None
        return asyncio.gather(*self.calls)

    def request(self, credential: str) -> bytes:
        head = f"POST {self.path} HTTP/1.1\r\nhost: models\r\nauthorization: Bearer {credential}\r\n"
        return f"{head}content-type: application/json\r\ncontent-length: {len(self.body)}\r\n\r\n{self.body}".encode()

    async def call(self, calls: Calls, request: bytes, entrances: Sequence[Entrance]) -> None:
        while True:
            late = self.loop.time() - (calls.began + calls.sent / self.rate)
            if late < 0:
                await asyncio.sleep(-late)
                continue
            call = self.loop.create_task(self.ask(calls, request, entrances[calls.sent % len(entrances)]))
            calls.sent += 1
            calls.lateness = max(calls.lateness, late)
            self.calls.add(call)
            call.add_done_callback(self.calls.discard)

    async def ask(self, calls: Calls, request: bytes, entrance: Entrance) -> None:
        asked = self.loop.time()
        try:
            status = await asyncio.wait_for(entrance.ask(request), PATIENCE)
        except (OSError, EOFError, asyncio.TimeoutError):
            status = 0
        calls.statuses[status] += 1
        calls.times.append(self.loop.time() - asked)
