"""What controllers and kubelets would make of manifests, played by the tests: pods that are ready, on addresses of
10.96.0.0/16, and the EndpointSlices of Services. What control planes read of them is real."""

from __future__ import annotations

import copy
import json

import overlays
from cluster import Cluster, Object
from manifests import container, one


def pod_of(owner: Object, name: str | None = None) -> Object:
    """The pod that a controller would make. Pod security is enforced on pods, not on what makes them."""
    template, about = copy.deepcopy(owner["spec"]["template"]), owner["metadata"]
    marks = {key: template["metadata"].get(key, {}) for key in ("labels", "annotations")}
    claims = [claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", ())]
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{about['name']}-0"}} for name in claims]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**marks, "name": name or f"{about['name']}-0", "namespace": about["namespace"]},
        "spec": {**template["spec"], "volumes": [*template["spec"].get("volumes", ()), *volumes]},
    }


def run(cluster: Cluster, pod: Object, address: str) -> Object:
    """The pod, started and ready."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    cluster.apply([pod])
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    conditions = [{"type": kind, "status": "True"} for kind in kinds]
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}
    flags = ("--namespace", namespace, "--subresource", "status", "--type", "merge", "--patch")
    cluster.kubectl("patch", "pod", name, *flags, json.dumps({"status": status}))
    return cluster.read("pod", name, namespace)


def lead(cluster: Cluster, service: Object, pods: list[Object]) -> None:
    """The EndpointSlice that leads a Service's callers to these pods."""
    about = service["metadata"]
    ports = [
        {"name": port["name"], "port": port_of(pods[0], port["targetPort"]), "protocol": "TCP"}
        for port in service["spec"]["ports"]
    ]
    endpoints = [
        {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod"} | {key: pod["metadata"][key] for key in ("name", "namespace", "uid")},
        }
        for pod in pods
    ]
    labels = {"kubernetes.io/service-name": about["name"]}
    metadata = {"name": f"{about['name']}-1", "namespace": about["namespace"], "labels": labels}
    cluster.apply(
        [
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": metadata,
                "addressType": "IPv4",
                "endpoints": endpoints,
                "ports": ports,
            }
        ]
    )


def default_account(namespace: str) -> Object:
    """Kubernetes' own controllers make it in each namespace."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}


def run_models(cluster: Cluster, addresses: dict[str, str], port: int) -> None:
    """The models of the example, each by itself at its address, on a port that may be another than the example's."""
    cluster.apply([default_account("models")])
    made = cluster.apply(overlays.MODELS.read_text())
    owner = one(made, "Deployment", "models")
    container(owner["spec"]["template"]["spec"], "model")["ports"][0]["containerPort"] = port
    for name, address in addresses.items():
        lead(cluster, one(made, "Service", name), [run(cluster, pod_of(owner, f"{name}-0"), address)])


def port_of(pod: Object, target: int | str) -> int:
    """A port by its number, or by its name in the pod."""
    named = {
        port.get("name"): port["containerPort"] for each in pod["spec"]["containers"] for port in each.get("ports", ())
    }
    return target if isinstance(target, int) else named[target]
