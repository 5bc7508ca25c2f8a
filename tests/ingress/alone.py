"""A network of this run's own: Linux namespaces for user, network and mounts, for which nobody needs to be root.

In it every port is free, also those below 1024, and 10.96.0.0/16 is as local as 127.0.0.1: Services and pods have
addresses as in a cluster, and nothing of it can be reached from outside, whatever address a program listens on.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

INSIDE = "SCOREGATE_TEST_NETWORK"

SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x8, 0x40

# What /etc/hosts is, once anything is named. It stays that file: one over the other could not be removed at the end.
own_hosts: Path | None = None


def enter() -> None:
    """Replaces this process by the same one in new namespaces; returns there."""
    if os.environ.get(INSIDE) is None:
        shield = ["unshare", "--map-root-user", "--net", "--mount"]
        tried = subprocess.run([*shield, "true"], capture_output=True, text=True)
        if tried.returncode != 0:
            sys.exit(f"this machine lets nobody make namespaces ({tried.stderr.strip()}): test-ingress needs them")
        os.execvpe(shield[0], [*shield, sys.executable, *sys.argv], os.environ | {INSIDE: "1"})
    bring_up()


def bring_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        up = struct.pack("16sh14x", b"lo", IFF_UP | IFF_LOOPBACK | IFF_RUNNING)
        fcntl.ioctl(control, SIOCSIFFLAGS, up)
        for request, address in ((SIOCSIFADDR, "10.96.0.1"), (SIOCSIFNETMASK, "255.255.0.0")):
            packed = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(control, request, packed)


def name_hosts(folder: Path, addresses: Mapping[str, str]) -> None:
    """What the cluster's DNS would say, in an /etc/hosts that only this run sees."""
    global own_hosts
    if own_hosts is None:
        own_hosts = folder / "hosts"
        own_hosts.touch()
        subprocess.run(["mount", "--bind", own_hosts, "/etc/hosts"], check=True)
    lines = [f"{address} {name}\n" for name, address in {"localhost": "127.0.0.1", **addresses}.items()]
    own_hosts.write_text("".join(lines))
