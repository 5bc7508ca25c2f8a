"""What manifests must be, as functions from Kubernetes objects to the problems that they have."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import ROOT
from parts import program
from readme import blocks

Object = dict[str, Any]

BASES = ("base/namespace", "base/gate", "base/workspace")
README = "k8s/README.md"
OVERLAYS = ("aks-ingress", "istio", "istio-aks-addon", "envoy-gateway")

# What Istio's webhook makes of it: an image of its own, with probes.
INJECTED = "istio-proxy"
# What the gate says of a call that it lets through.
LET_IN_TO = "x-scoregate-service"
# Objects that hold pods.
WORKLOADS = {"Deployment", "StatefulSet"}


def rendered(folder: str | Path) -> list[Object]:
    """The objects of a folder of k8s/, or of one elsewhere."""
    return read(kustomized(folder))


def kustomized(folder: str | Path) -> str:
    """What `kubectl kustomize` makes of it."""
    command = [program("kubectl", "kubectl"), "kustomize", ROOT / "k8s" / folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"kubectl kustomize k8s/{folder}: {done.stderr}"
    return done.stdout


def read(text: str) -> list[Object]:
    # This interpreter may have no YAML; that of SDK v2 has.
    script = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"
    command = [program("azure-ai-ml", "python"), "-c", script]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def one(objects: list[Object], kind: str, name: str) -> Object:
    [found] = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Namespace, labels and spec of each pod template."""
    for each in of_kind(objects, *WORKLOADS):
        template = each["spec"]["template"]
        yield each["metadata"]["namespace"], template["metadata"]["labels"], template["spec"]


def container(pod: Object, name: str) -> Object:
    [found] = [each for each in pod["containers"] if each["name"] == name]
    return found


def inlined_secrets(objects: list[Object]) -> list[str]:
    """Secrets are made by hand or by cert-manager, never here."""
    problems = [f"Secret {each['metadata']['name']} is in the manifests" for each in of_kind(objects, "Secret")]
    looks_secret = re.compile(r"PRIVATE KEY|\b[0-9a-f]{64}\b|Bearer [A-Za-z0-9_-]{20}")
    for each in objects:
        if found := looks_secret.search(json.dumps(each)):
            problems.append(f"{each['kind']} {each['metadata']['name']} has a secret: {found[0][:12]}...")
    return problems


def soft(objects: list[Object]) -> list[str]:
    """What is not as hard as it could be."""
    return [f"{name}: {problem}" for _, _, pod in pods(objects) for name, problem in soft_spots(pod)]


def soft_spots(pod: Object) -> Iterator[tuple[str, str]]:
    context = pod.get("securityContext", {})
    if pod.get("automountServiceAccountToken") is not False or pod.get("serviceAccountName", "default") == "default":
        yield "pod", "has a token of an account, or the default account"
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "pod", "shares something with its node"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"} or context.get("runAsNonRoot") is not True:
        yield "pod", "has no seccomp profile, or may run as root"
    if not pod.get("topologySpreadConstraints") and container_named(pod, "gate"):
        yield "pod", "is not spread over zones and nodes"
    for volume in pod.get("volumes", ()):
        if not volume.keys() & {"configMap", "secret", "emptyDir"} or volume.get("emptyDir", {"sizeLimit": 1}) == {}:
            yield "pod", f"volume {volume['name']} is of a kind that it needs not, or has no limit"
        if volume.get("secret", {}).get("defaultMode", 0o440) != 0o440:
            yield "pod", f"everybody in the pod can read volume {volume['name']}"
    for each in pod["containers"] + pod.get("initContainers", []):
        yield from ((each["name"], problem) for problem in soft_container(each, context))


def container_named(pod: Object, name: str) -> bool:
    return any(each["name"] == name for each in pod["containers"])


def soft_container(each: Object, of_pod: Object) -> Iterator[str]:
    context = each.get("securityContext", {})
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    if any(context.get(key) != value for key, value in wanted.items()) or context.get("privileged"):
        yield f"securityContext is {context}"
    for key in ("runAsUser", "runAsGroup"):
        if not (of_pod | context).get(key, 0) > 0:
            yield f"{key} is not fixed, or root's"
    resources = each.get("resources", {})
    if any(not {"cpu", "memory"} <= resources.get(kind, {}).keys() for kind in ("requests", "limits")):
        yield "has no requests and limits of CPU and memory"
    if not re.search(r":[\w.-]*\d|@sha256:", each["image"]) and each["name"] != INJECTED:
        yield f"image {each['image']} has no version"
    if any("hostPort" in port for port in each.get("ports", ())):
        yield "takes a port of its node"


def loose_ends(objects: list[Object]) -> list[str]:
    """Names of what is not there: ports, ConfigMaps, accounts, pods."""
    return [*unknown_in_pods(objects), *unknown_to_services(objects), *unknown_to_policies(objects)]


def unknown_in_pods(objects: list[Object]) -> Iterator[str]:
    for namespace, _, pod in pods(objects):
        there = {(each["kind"], each["metadata"]["name"]) for each in objects if namespace_of(each) == namespace}
        wanted = [("ServiceAccount", pod["serviceAccountName"])]
        wanted += [("ConfigMap", each["configMap"]["name"]) for each in pod["volumes"] if "configMap" in each]
        for each in pod["containers"]:
            wanted += [("ConfigMap", source["configMapRef"]["name"]) for source in each.get("envFrom", ())]
            ports = {port["name"] for port in each.get("ports", ())}
            probes = [each.get(f"{kind}Probe") for kind in ("startup", "readiness", "liveness")]
            if not all(probes) and each["name"] != INJECTED:
                yield f"{each['name']} lacks a probe"
            for probe in filter(None, probes):
                if probe["httpGet"]["port"] not in ports:
                    yield f"{each['name']} is probed at {probe['httpGet']['port']}, which is no port of it"
        yield from (f"{kind} {name} is not there" for kind, name in wanted if (kind, name) not in there)


def unknown_to_services(objects: list[Object]) -> Iterator[str]:
    for service in of_kind(objects, "Service"):
        name = service["metadata"]["name"]
        ports = ports_of(objects, namespace_of(service), service["spec"]["selector"])
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"Service {name}: no pod has the port {port['targetPort']}"
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        pod = one(objects, target["kind"], target["name"])["spec"]["template"]["spec"]
        for metric in scaler["spec"]["metrics"]:
            if not container_named(pod, metric["containerResource"]["container"]):
                yield f"{target['name']} is scaled by a container that it has not"
    for budget in of_kind(objects, "PodDisruptionBudget"):
        if not selected(objects, namespace_of(budget), budget["spec"]["selector"]["matchLabels"]):
            yield f"PodDisruptionBudget {budget['metadata']['name']} is about no pod"


def unknown_to_policies(objects: list[Object]) -> Iterator[str]:
    for policy in of_kind(objects, "NetworkPolicy"):
        name, namespace, spec = policy["metadata"]["name"], namespace_of(policy), policy["spec"]
        labels = spec["podSelector"].get("matchLabels", {})
        if labels and not selected(objects, namespace, labels):
            yield f"NetworkPolicy {name} is about no pod"
        named = [port["port"] for rule in spec.get("ingress", ()) for port in rule.get("ports", ())]
        for port in named:
            if isinstance(port, str) and port not in ports_of(objects, namespace, labels):
                yield f"NetworkPolicy {name}: no pod has the port {port}"


def namespace_of(each: Object) -> str | None:
    return each["metadata"].get("namespace")


def selected(objects: list[Object], namespace: str | None, wanted: Object) -> list[Object]:
    return [pod for of, labels, pod in pods(objects) if of == namespace and wanted.items() <= labels.items()]


def ports_of(objects: list[Object], namespace: str | None, labels: Object) -> set[str]:
    found = selected(objects, namespace, labels)
    return {port["name"] for pod in found for each in pod["containers"] for port in each.get("ports", ())}


def hasty(objects: list[Object]) -> list[str]:
    """Pods that Kubernetes kills before they have ended by themselves."""
    problems = []
    for _, _, pod in pods(objects):
        for each in pod["containers"]:
            waits = each.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            ends = sum(seconds(value) for value in configuration(objects, pod, each).get("shutdown", {}).values())
            if waits + ends >= pod["terminationGracePeriodSeconds"]:
                problems.append(f"{each['name']} takes {waits} + {ends} s to end, and is killed before")
    return problems


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def configuration(objects: list[Object], pod: Object, each: Object) -> Object:
    """The TOML file that a container of ours is started with."""
    text = config_file(objects, pod, each)
    return tomllib.loads(text) if text else {}


def config_file(objects: list[Object], pod: Object, each: Object) -> str | None:
    arguments = each.get("args", [])
    if "--config" not in arguments:
        return None
    path = arguments[arguments.index("--config") + 1]
    folder, _, name = path.rpartition("/")
    [volume] = [mount["name"] for mount in each["volumeMounts"] if mount["mountPath"] == folder]
    [config] = [volume_["configMap"]["name"] for volume_ in pod["volumes"] if volume_["name"] == volume]
    return one(objects, "ConfigMap", config)["data"][name]


def environment(objects: list[Object], each: Object) -> dict[str, str]:
    found = {}
    for source in each.get("envFrom", ()):
        found |= one(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {variable["name"]: variable["value"] for variable in each.get("env", ())}


def mounted_secrets(pod: Object, each: Object) -> dict[str, str]:
    """Where a container has which Secret."""
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    mounts = each.get("volumeMounts", ())
    return {mount["mountPath"]: secrets[mount["name"]] for mount in mounts if mount["name"] in secrets}


def lay_out(
    objects: list[Object], pod: Object, each: Object, secrets: dict[str, dict[str, bytes]], root: Path
) -> tuple[list[str], dict[str, str]]:
    """Puts what a container has mounted below `root`; returns its arguments and its variables, with the paths there.
    `secrets`: what is in each."""
    here = lambda text: re.sub(r"(?<![\w.])/(etc|var|run)/", rf"{root}/\1/", text)  # noqa: E731
    for mount in each["volumeMounts"]:
        (root / mount["mountPath"].strip("/")).mkdir(parents=True, exist_ok=True)
    for path, name in mounted_secrets(pod, each).items():
        for key, content in secrets[name].items():
            (root / path.strip("/") / key).write_bytes(content)
    arguments = [here(argument) for argument in each["args"]]
    if text := config_file(objects, pod, each):
        Path(arguments[arguments.index("--config") + 1]).write_text(here(text))
    return arguments, {name: here(value) for name, value in environment(objects, each).items()}


def secrets_of_readme(folder: Path, *more: str) -> list[Object]:
    """Runs the commands of README.md as they are, and then `more` of them, with a kubectl that only says what it would
    create; returns the Secrets."""
    script, _ = blocks("Secrets", "sh", README)
    real = program("kubectl", "kubectl")
    programs, log = folder / "bin", folder / "created"
    programs.mkdir()
    kubectl = programs / "kubectl"
    # Nobody's cluster, whatever this machine is set up for.
    nowhere = "--kubeconfig /dev/null --server http://127.0.0.1:1"
    kubectl.write_text(
        f'#!/bin/sh\n{real} "$@" {nowhere} --dry-run=client --output json | tr -d "\\n" >> {log}\necho >> {log}\n'
    )
    kubectl.chmod(0o755)
    command = ["sh", "-eu", "-c", "\n".join((script, *more))]
    path = f"{programs}:{os.environ['PATH']}"
    subprocess.run(command, check=True, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True)
    return [json.loads(line) for line in log.read_text().splitlines()]


def contents(secrets: list[Object]) -> dict[str, dict[str, bytes]]:
    """What is in Secrets, by their names."""
    return {
        each["metadata"]["name"]: {key: base64.b64decode(value) for key, value in each["data"].items()} for each in secrets
    }


def files_without_secret(objects: list[Object], secrets: dict[str, set[str]]) -> list[str]:
    """Files that a configuration names and no mounted Secret has. `secrets`: the keys of each."""
    problems = []
    for _, _, pod in pods(objects):
        for each in pod["containers"]:
            mounted = mounted_secrets(pod, each)
            there = {f"{path}/{key}" for path, name in mounted.items() for key in secrets.get(name, ())}
            text = (config_file(objects, pod, each) or "") + " ".join(environment(objects, each).values())
            named = set(re.findall(r"/etc/scoregate/[\w./-]+", text))
            problems += [f"{each['name']}: {path} is in no Secret" for path in sorted(named - there)]
            problems += [f"Secret {name} is not in README.md" for name in mounted.values() if name not in secrets]
    return problems


def unguarded_by_istio(objects: list[Object], providers: list[Object]) -> list[str]:
    """Ways past the gate, and providers that are none. `providers`: those of istiod's configuration."""
    problems = []
    policies = of_kind(objects, "AuthorizationPolicy")
    for gateway in of_kind(objects, "Gateway"):
        name, selector = gateway["metadata"]["name"], gateway["spec"]["selector"]
        guards = [each["spec"] for each in policies if each["spec"]["selector"] == {"matchLabels": selector}]
        if [(each["action"], each["rules"]) for each in guards] != [("CUSTOM", [{}])]:
            problems.append(f"Gateway {name}: not every request is asked about")
        if any(host.split("/")[0] != "." for server in gateway["spec"]["servers"] for host in server["hosts"]):
            problems.append(f"Gateway {name}: other namespaces may add routes")
    for policy in policies:
        if "istio.io/dry-run" in policy["metadata"].get("annotations", {}):
            problems.append("a dry run on CUSTOM refuses everything")
        if policy["spec"]["provider"]["name"] not in {each["name"] for each in providers}:
            problems.append(f"istiod knows no provider {policy['spec']['provider']['name']}")
    for provider in providers:
        settings = provider["envoyExtAuthzGrpc"]
        if settings["failOpen"] is not False or settings["statusOnError"] != "503" or settings["timeout"] != "0.25s":
            problems.append("the provider is open, slow, or answers with a refusal when there is no gate")
        if (settings["service"].split("/")[-1], settings["port"]) not in hosts(objects):
            problems.append(f"nobody is {settings['service']}:{settings['port']}")
    return problems


def hosts(objects: list[Object]) -> set[tuple[str, int]]:
    """Hosts and ports that a mesh knows."""
    names = [
        (f"{each['metadata']['name']}.{namespace_of(each)}.svc.cluster.local", port["port"])
        for each in of_kind(objects, "Service")
        for port in each["spec"]["ports"]
    ]
    entries = [
        (host, port["number"])
        for each in of_kind(objects, "ServiceEntry")
        for host in each["spec"]["hosts"]
        for port in each["spec"]["ports"]
    ]
    return {*names, *entries}


def unguarded_by_envoy_gateway(objects: list[Object]) -> list[str]:
    """Routes whose service the gate is not told, and policies that would let requests through."""
    problems = []
    policies = of_kind(objects, "SecurityPolicy")
    guarded = {
        (reference["kind"], reference["name"]): each["spec"]["extAuth"]
        for each in policies
        for reference in each["spec"]["targetRefs"]
    }
    for gateway in of_kind(objects, "Gateway"):
        guard = guarded.get(("Gateway", gateway["metadata"]["name"]))
        if guard is None or guard.get("contextExtensions"):
            problems.append(f"Gateway {gateway['metadata']['name']}: a route without a policy is not refused")
    for route in of_kind(objects, "HTTPRoute"):
        name = route["metadata"]["name"]
        guard = guarded.get(("HTTPRoute", name), {})
        told = guard.get("contextExtensions")
        ways = [rule for rule in route["spec"]["rules"] if "backendRefs" in rule]
        models = {backend["name"] for rule in ways for backend in rule["backendRefs"]}
        let_in = [[{"name": LET_IN_TO, "value": name}]] * len(ways)
        if [match.get("headers") for rule in ways for match in rule["matches"]] != let_in or not guard.get("recomputeRoute"):
            problems.append(f"HTTPRoute {name}: who was not let in gets to the model")
        if told != [{"name": "service", "type": "Value", "value": name}] or models != {name}:
            problems.append(f"HTTPRoute {name}: the gate is told {told}, and it goes to {models}")
    for each in of_kind(objects, "ClientTrafficPolicy"):
        if LET_IN_TO not in each["spec"]["headers"].get("earlyRequestHeaders", {}).get("remove", ()):
            problems.append(f"callers may say {LET_IN_TO}")
    for settings in (each["spec"]["extAuth"] for each in policies):
        if settings["failOpen"] is not False or settings["statusOnError"] != 503 or settings["timeout"] != "250ms":
            problems.append("a policy is open, slow, or answers with a refusal when there is no gate")
        if {each["name"] for each in settings["grpc"]["backendRefs"]} != {"gate"}:
            problems.append("a policy asks somebody else")
    return problems
