"""A real API server takes every manifest of k8s/, with the real kinds of Istio, Gateway API and Envoy Gateway, and would not
take just anything."""

from __future__ import annotations

import copy
import unittest
from collections.abc import Callable, Iterable
from functools import cache

import overlays
from cluster import Object, Refused, namespace_of_name, text_of
from pods import default_account, pod_of
from rig import cluster

WITH_PODS = ("DaemonSet", "Deployment", "StatefulSet")


def owners(objects: Iterable[Object]) -> list[Object]:
    return [each for each in objects if each["kind"] in WITH_PODS]


@cache
def prepared() -> dict[str, list[Object]]:
    """All overlays. Namespaces, which carry the rules for pods, and service accounts are really made."""
    found = {name: cluster().parse(overlays.build(name)) for name in overlays.all_of_them()}
    cluster().apply(namespace_of_name(name) for name in overlays.OTHERS_NAMESPACES)
    for kind in ("Namespace", "ServiceAccount"):
        cluster().apply(without_repeats(each for objects in found.values() for each in objects if each["kind"] == kind))
    return found


def without_repeats(objects: Iterable[Object]) -> list[Object]:
    return list({(each["metadata"].get("namespace"), each["metadata"]["name"]): each for each in objects}.values())


class ApiServer(unittest.TestCase):
    @property
    def overlays(self) -> dict[str, list[Object]]:
        return prepared()

    def refused(self, manifest: Object, why: str) -> None:
        with self.assertRaises(Refused) as raised:
            cluster().judge_one(manifest)
        self.assertIn(why, str(raised.exception))

    def one(self, kind: str, overlay: str = "overlays/istio-aks-addon") -> Object:
        return copy.deepcopy(next(each for each in self.overlays[overlay] if each["kind"] == kind))


class Manifests(ApiServer):
    def test_every_manifest_is_taken(self) -> None:
        self.assertGreaterEqual(len(self.overlays), 7)
        for name, objects in self.overlays.items():
            with self.subTest(name):
                self.assertEqual(len(cluster().judge(text_of(objects))), len(objects))

    def test_what_is_for_a_managed_istiod_is_taken(self) -> None:
        self.assertEqual(len(cluster().judge(overlays.SHARED_MESH.read_text())), 1)

    def test_every_pod_is_taken(self) -> None:
        for name, objects in self.overlays.items():
            with self.subTest(name):
                pods = [pod_of(owner) for owner in owners(objects)]
                self.assertTrue(pods or not name.startswith("overlays/"))
                for pod in pods:
                    cluster().judge_one(pod)

    def test_example_models_and_their_pods_are_taken(self) -> None:
        self.assertTrue(self.overlays)
        cluster().apply([default_account("models")])
        found = cluster().parse(overlays.MODELS.read_text())
        self.assertEqual(len(cluster().judge(text_of(found))), len(found))
        for owner in owners(found):
            cluster().judge_one(pod_of(owner))

    def test_no_pod_would_be_taken_with_more_rights(self) -> None:
        """Wherever there is a pod, its namespace enforces the strictest rules."""
        for owner in without_repeats(each for objects in self.overlays.values() for each in owners(objects)):
            pod = pod_of(owner)
            del pod["spec"]["securityContext"]
            with self.subTest(owner["metadata"]["name"]):
                self.refused(pod, 'violates PodSecurity "restricted:latest"')


class PlantedErrors(ApiServer):
    """What is wrong is refused: the judgement is one."""

    def test_in_what_makes_pods(self) -> None:
        for change, why in (
            (lambda it: it["metadata"]["labels"].update({"app.kubernetes.io/name": 1}), "cannot unmarshal number"),
            (lambda it: it["spec"].update(replicaz=3), 'unknown field "spec.replicaz"'),
            (lambda it: it["spec"]["selector"]["matchLabels"].update(app="other"), "`selector` does not match"),
            (lambda it: it["metadata"].update(namespace="nowhere"), 'namespaces "nowhere" not found'),
        ):
            self.refused_with(self.one("Deployment"), change, why)

    def test_in_pods(self) -> None:
        for change, why in (
            (lambda it: it["spec"]["containers"][0]["securityContext"].update(privileged=True), "privileged"),
            (lambda it: it["spec"].update(hostNetwork=True), "host namespaces"),
            (lambda it: it["spec"].update(serviceAccountName="nobody"), 'serviceaccount "nobody" not found'),
            (lambda it: it["spec"]["containers"][0]["volumeMounts"][0].update(name="none"), "volumeMounts[0].name"),
        ):
            self.refused_with(pod_of(self.one("Deployment")), change, why)

    def test_in_kinds_of_istio(self) -> None:
        for change, why in (
            (lambda it: it["spec"].update(providr={}), 'unknown field "spec.providr"'),
            (lambda it: it["spec"].update(action="ASK"), 'Unsupported value: "ASK"'),
        ):
            self.refused_with(self.one("AuthorizationPolicy"), change, why)

    def test_in_kinds_of_envoy_gateway(self) -> None:
        for change, why in (
            (lambda it: it["spec"]["extAuth"].update(timeoutMillis=1), 'unknown field "spec.extAuth.timeoutMillis"'),
            (lambda it: it["spec"]["extAuth"].update(statusOnError=200), "statusOnError"),
            (lambda it: it["spec"].pop("targetRefs"), "targetRef"),
        ):
            self.refused_with(self.one("SecurityPolicy", "overlays/envoy-gateway"), change, why)

    def refused_with(self, manifest: Object, change: Callable[[Object], object], why: str) -> None:
        change(manifest)
        with self.subTest(why):
            self.refused(manifest, why)
