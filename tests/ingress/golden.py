"""What a control plane emitted for the way of a request: listener, routes, and the clusters of gate and models. It is
committed as tests/envoy/golden/ingress/NAME.json, which tests/envoy/ingress.rs replays in a real Envoy without any
control plane.

A control plane that emits something else fails the test. When that is meant:

    GOLDEN=write make test-ingress

writes the files anew; then look at the difference, and run `make test`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from harness import ROOT, request

FOLDER = ROOT / "tests" / "envoy" / "golden" / "ingress"

# Where Envoy says what, and under which names.
LISTENERS = ("ListenersConfigDump", "dynamic_listeners", "active_state", "listener")
ROUTES = ("RoutesConfigDump", "dynamic_route_configs", None, "route_config")
CLUSTERS = ("ClustersConfigDump", "dynamic_active_clusters", None, "cluster")


def emitted(admin: str, port: int) -> dict[str, Any]:
    """What Envoy has now for the listener at a port, and only what is on the way from there. `admin`: Envoy's, a URL."""
    dump = request("GET", f"{admin}/config_dump").json()["configs"]
    [listener] = [each for each in resources(dump, *LISTENERS) if port_of(each) == port]
    names = set(values(listener, "route_config_name"))
    routes = [each for each in resources(dump, *ROUTES) if each["name"] in names]
    wanted = {name for key in ("cluster", "cluster_name") for name in values([listener, routes], key)}
    clusters = [each for each in resources(dump, *CLUSTERS) if each["name"] in wanted]
    return {
        "listener": listener,
        "routes": sorted(routes, key=lambda each: each["name"]),
        "clusters": sorted(clusters, key=lambda each: each["name"]),
    }


def resources(dump: Any, kind: str, group: str, state: str | None, name: str) -> list[Any]:
    found = [each for section in dump if section["@type"].endswith(kind) for each in section.get(group, ())]
    return [(each[state] if state else each)[name] for each in found]


def port_of(listener: Any) -> int | None:
    return listener["address"].get("socket_address", {}).get("port_value")


def values(value: Any, wanted: str) -> Iterator[str]:
    """The texts under a key, wherever it is."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key == wanted and isinstance(each, str):
                yield each
            yield from values(each, wanted)
    elif isinstance(value, list):
        for each in value:
            yield from values(each, wanted)


def compare(name: str, found: dict[str, Any], varying: dict[str, str] | None = None) -> None:
    """Fails if something else was committed. `varying`: patterns of what is another each time, and what stands there."""
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    for pattern, instead in (varying or {}).items():
        text = re.sub(pattern, instead, text)
    file = FOLDER / f"{name}.json"
    if os.environ.get("GOLDEN") == "write":
        FOLDER.mkdir(exist_ok=True)
        file.write_text(text)
    committed = file.read_text() if file.exists() else ""
    if text != committed:
        lines = difflib.unified_diff(committed.splitlines(), text.splitlines(), "committed", "emitted", lineterm="", n=8)
        raise AssertionError(f"{file.relative_to(ROOT)} is another (golden.py says what to do):\n" + "\n".join(lines))
