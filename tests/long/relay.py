"""A connection that can be held: what is sent waits, and nobody is told."""

from __future__ import annotations

import contextlib
import socket
import threading


class Relay:
    """Listens on a free port, and takes each connection on to an address. Ends with the process."""

    def __init__(self, to: str) -> None:
        host, _, port = to.rpartition(":")
        self.to = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.flows = threading.Event()
        self.flows.set()
        start(self.accept)

    def hold(self) -> None:
        self.flows.clear()

    def release(self) -> None:
        self.flows.set()

    def accept(self) -> None:
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(self.to)
            start(self.copy, near, far)
            start(self.copy, far, near)

    def copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.flows.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def start(function: object, *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()
