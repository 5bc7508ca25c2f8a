"""What demo and load share: real processes with logs, HTTP without a library's opinions, Envoy's configuration."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SIDECAR = ROOT / "envoy" / "sidecar.yaml"


# The route of the service `forecast` in Envoy's configuration.
ROUTE = r"(?m)^ *- match: \{ prefix: /api/v1/service/forecast/ \}\n(?: +[^ -].*\n)+"


class Failure(Exception):
    """Something did not come up or did not behave; the message says what, and where to look."""


@dataclass
class Process:
    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def alive(self) -> bool:
        return self.popen.poll() is None

    def tail(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(f"    {self.name}: {line}" for line in text)


class Processes:
    """The processes that a run started. Leaving the `with` block ends them, last started first."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.running: list[Process] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        # A second Ctrl-C must not leave half of them running.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for process in reversed(self.running.copy()):
            self.stop(process)

    def start(
        self, name: str, *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we end the others in order.
            popen = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(env or {}),
                cwd=cwd,
                start_new_session=True,
            )
        process = Process(name, popen, log)
        self.running.append(process)
        return process

    def stop(self, process: Process, seconds: float = 15) -> int:
        """Ends by SIGTERM, and by SIGKILL after `seconds`; returns the exit status."""
        if process.alive():
            process.popen.terminate()
        try:
            status = process.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            status = process.popen.wait()
        # What a killed parent left behind (gunicorn's workers) is in its session, whose id is its own.
        with suppress(ProcessLookupError):
            os.killpg(process.popen.pid, signal.SIGKILL)
        self.running.remove(process)
        return status

    def wait(self, what: str, ready: Callable[[], Any], process: Process, seconds: float = 60) -> Any:
        """Waits until `ready` returns something true and returns that; fails early when the process is gone."""

        def probe() -> Any:
            if not process.alive():
                raise Failure(f"{process.name} ended with status {process.popen.returncode}:\n{process.tail()}")
            return ready()

        try:
            return wait_until(what, probe, seconds)
        except TimeoutError as error:
            raise Failure(f"{error}; the end of {process.name}'s log:\n{process.tail()}") from None


def wait_until(what: str, probe: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := probe():
            return result
        time.sleep(0.05)
    raise TimeoutError(f"waited {seconds:g} s for {what}")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP do what Ctrl-C does: they end the program through every `with` block on the way."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def free_port() -> int:
    """A port that the system chose, and gives to nobody else for a minute: a connection to it was closed from its side
    (TIME_WAIT). A server that sets SO_REUSEADDR, as nearly all do, can have it all the same."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        with socket.create_connection(server.getsockname()):
            server.accept()[0].close()
        return server.getsockname()[1]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: str

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]] = (),
    body: str | None = None,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """One request on a connection of its own. Headers go out as given, repeated ones too. `context`: for https, whom to
    believe, and what to show."""
    parts = urllib.parse.urlsplit(url)
    connection = (
        http.client.HTTPSConnection(parts.netloc, timeout=30, context=context)
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.netloc, timeout=30)
    )
    return exchange(connection, method, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), headers, body)


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]] = (),
    body: str | None = None,
    skip_host: bool = False,
) -> Answer:
    """The one request of a connection, with the target as given. `skip_host`: the host is among the headers."""
    try:
        connection.putrequest(method, target, skip_host=skip_host, skip_accept_encoding=skip_host)
        data = (body or "").encode()
        for name, value in [*headers, ("content-length", str(len(data)))]:
            connection.putheader(name, value)
        connection.endheaders(data)
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), response.read().decode(errors="replace"))
    finally:
        connection.close()


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Whether `GET url` says 200; no connection is a no."""
    try:
        return request("GET", url, context=context).status == 200
    except OSError:
        return False


def read_json(path: Path) -> Any:
    """The content of a file that another process writes when it is ready; None until then."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def envoy_address(address: str) -> str:
    """`host:port` or `unix:PATH` as Envoy writes an address."""
    if address.startswith("unix:"):
        return f"{{ pipe: {{ path: {address.removeprefix('unix:')} }} }}"
    host, _, port = address.rpartition(":")
    return f"{{ socket_address: {{ address: {host}, port_value: {port} }} }}"


def envoy_config(addresses: Mapping[str, str], services: Iterable[str] = (), template: Path = SIDECAR) -> str:
    """The shipped configuration with the marked addresses (`# @gate` and so on) replaced, and its first route copied
    for each further service, as its head says."""
    text = template.read_text()
    route = next(iter(re.findall(ROUTE, text)), "")
    copies = "".join(route.replace("forecast", service) for service in services)
    text = text.replace(route, route + copies, 1)
    for mark, address in addresses.items():
        line = re.compile(rf"(?m)^( *address: )\{{.*\}}(  # @{mark})$")
        text, count = line.subn(rf"\g<1>{envoy_address(address)}\g<2>", text)
        if count != 1:
            raise Failure(f"{template.name} has {count} lines marked `# @{mark}`, not one")
    return text


def built(profile: str) -> Path:
    """Builds the binary by itself and returns its path. `profile`: `dev` or `release`."""
    return binary_of("build", "--bin", "scoregate", "--profile", profile)


def built_for_tests() -> Path:
    """The same as `cargo test` has it: tests' dependencies add features to those of the binary, and without them most of it
    would be compiled a second time."""
    # Any one that needs the binary.
    return binary_of("test", "--workspace", "--test", "config", "--no-run")


def binary_of(*command: str) -> Path:
    """Runs a command of cargo that builds the binary, and returns its path, wherever cargo's target folder is."""
    cargo = ["cargo", *command, "--message-format", "json-render-diagnostics"]
    output = subprocess.run(cargo, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = (json.loads(line) for line in output.splitlines())
    programs = (message for message in messages if message.get("executable") and message["target"]["kind"] == ["bin"])
    return next(Path(message["executable"]) for message in programs if not message["profile"]["test"])
