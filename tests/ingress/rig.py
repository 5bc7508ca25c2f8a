"""What the tests of this folder share: one API server, started when the first test asks for it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from cluster import Cluster
from harness import Processes


class Rig:
    def __init__(self, processes: Processes, folder: Path, scoregate: Path) -> None:
        self.processes, self.folder, self.scoregate = processes, folder, scoregate

    @cached_property
    def cluster(self) -> Cluster:
        """With the kinds of Istio, Gateway API and Envoy Gateway."""
        cluster = Cluster(self.processes, self.folder)
        cluster.start()
        cluster.install_crds("istio", "envoy-gateway")
        return cluster


# Set by main.py before any test runs.
current: Rig


def cluster() -> Cluster:
    return current.cluster
