"""A real Envoy Gateway takes the overlay for it as it is, and the real Envoy that it runs keeps what the overlay promises."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable

import callers
import golden
import overlays
import pods
import rig
from callers import FORECAST, RANKING, SCORE, SUFFIX, Credentials, Entrance, Outcome, bearer
from cluster import Cluster, Object
from gateway import Gateway, conditions
from harness import wait_until
from installation import GATE_ADDRESSES, MODEL_ADDRESSES, Installation, secrets_of
from manifests import of_kind, one

NAMESPACE = "scoregate"
MODELS = overlays.FOLDER / "example" / "models" / "models.yaml"
PORT = 443

# What Envoy Gateway reads of the overlay, and says whether it takes it.
KINDS = ("GatewayClass", "Gateway", "ClientTrafficPolicy", "SecurityPolicy", "BackendTLSPolicy", "HTTPRoute")


class EnvoyGateway(callers.Callers):
    cluster: Cluster
    gateway: Gateway
    objects: list[Object]

    @classmethod
    def setUpClass(cls) -> None:
        processes, folder = rig.current.processes, rig.current.folder / "envoy-gateway"
        secrets = secrets_of(folder, "envoy-gateway.md")
        # Not the one of all: objects of other overlays have the same names.
        cls.cluster = Cluster(processes, folder)
        cls.cluster.start()
        cls.cluster.install_crds("envoy-gateway")
        cls.objects = cls.cluster.parse(overlays.build("overlays/envoy-gateway"))
        cls.cluster.apply(overlays.build("base/namespace"))
        cls.cluster.apply([*cls.objects, *secrets])
        cls.installation = Installation(processes, folder, rig.current.scoregate, cls.objects, secrets)
        cls.addClassCleanup(cls.installation.stop)
        cls.installation.start()
        cls.run_pods()
        cls.gateway = Gateway(processes, folder / "gateway", cls.cluster)
        cls.addClassCleanup(cls.gateway.stop)
        cls.gateway.start()
        cls.entrance = Entrance("127.0.0.1", PORT, cls.installation.ca)
        cls.credentials = Credentials.of(cls.installation)
        wait_until("Envoy to ask the gate", cls.is_up, 60)

    @classmethod
    def is_up(cls) -> bool:
        try:
            return cls.entrance.send(f"{FORECAST}{SUFFIX}", SCORE).status == 401
        except OSError:
            return False

    @classmethod
    def run_pods(cls) -> None:
        gate = pods.pod_of(one(cls.objects, "Deployment", "gate"))
        cls.pods = [pods.run(cls.cluster, gate, GATE_ADDRESSES[0])]
        pods.lead(cls.cluster, one(cls.objects, "Service", "gate"), cls.pods)
        # Kubernetes' own controllers make it in each namespace.
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "models"}}
        models = cls.cluster.apply(MODELS.read_text())
        cls.cluster.apply([account])
        for service in of_kind(models, "Service"):
            name = service["metadata"]["name"]
            pod = pods.pod_of(one(models, "Deployment", "models"), f"{name}-0")
            pods.lead(cls.cluster, service, [pods.run(cls.cluster, pod, MODEL_ADDRESSES[name])])

    def test_all_of_the_overlay_is_accepted(self) -> None:
        for each in of_kind(self.objects, *KINDS):
            kind, about = each["kind"], each["metadata"]
            with self.subTest(kind, name=about["name"]):
                found = list(conditions(self.cluster.read(kind, about["name"], about.get("namespace", NAMESPACE))["status"]))
                self.assertIn("Accepted", {condition.type for condition in found})
                # Whether there are pods of Envoy, of which there are none here.
                about_pods = lambda it: (kind, it.type, it.reason) == ("Gateway", "Programmed", "x")  # noqa: E731
                self.assertEqual([it for it in found if it.status != "True" and not about_pods(it)], [])
