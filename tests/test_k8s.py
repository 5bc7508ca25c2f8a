"""k8s/ as kustomize renders it, and the Dockerfile: what the manifests must be, and that each check would notice it."""

from __future__ import annotations

import copy
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import manifests  # noqa: E402
from harness import built_for_tests  # noqa: E402
from manifests import (  # noqa: E402
    BASES,
    OVERLAYS,
    README,
    Object,
    container,
    contents,
    of_kind,
    one,
    pods,
    secrets_of_readme,
)
from readme import blocks  # noqa: E402

# An image is to stay under 30 MB as it is pulled. The base has some 10 of them.
PROGRAM_BUDGET = 20 * 1000 * 1000


@cache
def overlay(name: str) -> list[Object]:
    return manifests.rendered(f"overlays/{name}")


@cache
def secrets() -> dict[str, set[str]]:
    """The Secrets of README.md's table, with their keys."""
    rows = re.findall(r"(?m)^\| `([\w-]+)` \| ((?:`[\w.-]+`(?:, )?)+) \|", (ROOT / README).read_text())
    return {name: set(re.findall(r"`(.*?)`", keys)) for name, keys in rows}


class Manifests(unittest.TestCase):
    def finds_nothing(self, check: Callable[[list[Object]], list[str]], *, names: tuple[str, ...] = OVERLAYS) -> None:
        for name in names:
            with self.subTest(name):
                self.assertEqual(check(overlay(name)), [])

    def finds(
        self, check: Callable[[list[Object]], list[str]], problem: str, name: str, plant: Callable[[list[Object]], object]
    ) -> None:
        """The check finds the error that was planted, and no other."""
        objects = copy.deepcopy(overlay(name))
        plant(objects)
        self.assertTrue(check(objects), f"nobody noticed: {problem}")
        for found in check(objects):
            self.assertIn(problem, found)

    def test_bases_are_rendered(self) -> None:
        for base in BASES:
            self.assertTrue(manifests.rendered(base), base)
        with self.assertRaises(AssertionError):
            manifests.rendered("base/nothing")

    def test_there_is_no_secret_in_them(self) -> None:
        check = manifests.inlined_secrets
        self.finds_nothing(check)
        secret = {"kind": "Secret", "metadata": {"name": "planted"}, "stringData": {}}
        self.finds(check, "Secret planted", "istio", lambda objects: objects.append(secret))
        pepper = {"kind": "ConfigMap", "metadata": {"name": "planted"}, "data": {"pepper": "0123456789abcdef" * 4}}
        self.finds(check, "has a secret", "istio", lambda objects: objects.append(pepper))

    def test_pods_are_hardened(self) -> None:
        check = manifests.soft
        self.finds_nothing(check)

        def at(name: str, change: Callable[[Object], object]) -> Callable[[list[Object]], object]:
            return lambda objects: change(container(pod_of(objects), name))

        planted: list[tuple[str, Callable[[list[Object]], object]]] = [
            ("token", lambda objects: pod_of(objects).pop("automountServiceAccountToken")),
            ("may run as root", lambda objects: pod_of(objects)["securityContext"].pop("runAsNonRoot")),
            ("seccomp", lambda objects: pod_of(objects)["securityContext"].pop("seccompProfile")),
            ("shares", lambda objects: pod_of(objects).update(hostNetwork=True)),
            ("spread", lambda objects: pod_of(objects).pop("topologySpreadConstraints")),
            ("volume", lambda objects: pod_of(objects)["volumes"].append({"name": "x", "hostPath": {"path": "/"}})),
            ("no limit", lambda objects: pod_of(objects)["volumes"].append({"name": "x", "emptyDir": {}})),
            ("securityContext", at("envoy", lambda each: each["securityContext"].pop("readOnlyRootFilesystem"))),
            ("securityContext", at("envoy", lambda each: each["securityContext"]["capabilities"].update(add=["X"]))),
            ("runAsUser", at("envoy", lambda each: each["securityContext"].update(runAsUser=0))),
            ("requests and limits", at("gate", lambda each: each["resources"].pop("limits"))),
            ("no version", at("gate", lambda each: each.update(image="scoregate-gate:latest"))),
            ("port of its node", at("gate", lambda each: each["ports"][0].update(hostPort=1))),
        ]
        for problem, plant in planted:
            with self.subTest(problem):
                self.finds(check, problem, "aks-ingress", plant)

    def test_what_is_named_is_there(self) -> None:
        check = manifests.loose_ends
        self.finds_nothing(check)

        def drop(kind: str, name: str) -> Callable[[list[Object]], object]:
            return lambda objects: objects.remove(one(objects, kind, name))

        def rename_port(objects: list[Object]) -> None:
            container(pod_of(objects), "gate")["ports"][0]["name"] = "other"

        planted = [
            ("ServiceAccount gate is not there", drop("ServiceAccount", "gate")),
            ("admin", rename_port),
            ("lacks a probe", lambda objects: container(pod_of(objects), "envoy").pop("readinessProbe")),
            ("scaled by", lambda objects: pod_of(objects)["containers"].pop()),
            ("is about no pod", lambda objects: one(objects, "PodDisruptionBudget", "gate")["spec"].update(
                selector={"matchLabels": {"x": "y"}})),
        ]  # fmt: skip
        for problem, plant in planted:
            with self.subTest(problem):
                objects = copy.deepcopy(overlay("aks-ingress"))
                plant(objects)
                self.assertIn(problem, "\n".join(check(objects)))

    def test_pods_have_the_time_to_end(self) -> None:
        self.finds_nothing(manifests.hasty)
        short = lambda objects: pod_of(objects).update(terminationGracePeriodSeconds=60)  # noqa: E731
        self.finds(manifests.hasty, "is killed before", "aks-ingress", short)

    def test_namespaces_are_restricted_and_closed(self) -> None:
        objects = manifests.rendered("base/namespace")
        labels = one(objects, "Namespace", "scoregate")["metadata"]["labels"]
        self.assertEqual(labels["pod-security.kubernetes.io/enforce"], "restricted")
        closed = {each["metadata"]["namespace"]: each["spec"] for each in of_kind(objects, "NetworkPolicy")}
        self.assertEqual([closed[name]["podSelector"] for name in ("scoregate", "models")], [{}, {}])
        for name in OVERLAYS:
            self.assertEqual({namespace for namespace, _, _ in pods(overlay(name))}, {"scoregate"})
            self.assertEqual(of_kind(overlay(name), "Namespace"), [], "deleting an overlay would delete what is in it")

    def test_gates_are_the_same_in_every_overlay(self) -> None:
        """But for where they listen, and what else is in their pod."""
        own = {"envFrom", "ports", "lifecycle", "volumeMounts"}
        gates = [container(pod_of(overlay(name)), "gate") for name in OVERLAYS]
        common = [{key: value for key, value in gate.items() if key not in own} for gate in gates]
        self.assertEqual(common, [common[0]] * len(OVERLAYS))
        targets = {name: gate_environment(name)["SCOREGATE__GATE__TARGET"] for name in OVERLAYS}
        by_context = {name for name, target in targets.items() if target == "context_extensions"}
        self.assertEqual(by_context, {"aks-ingress", "envoy-gateway"})

    def test_istio_asks_about_every_request(self) -> None:
        for name, file in (("istio", "istiod-values.yaml"), ("istio-aks-addon", "shared-configmap.yaml")):
            [settings] = manifests.read((ROOT / "k8s" / "overlays" / name / file).read_text())
            if settings.get("kind") == "ConfigMap":
                [mesh] = manifests.read(settings["data"]["mesh"])
            else:
                mesh = settings["meshConfig"]
            providers = mesh["extensionProviders"]
            self.assertEqual(manifests.unguarded_by_istio(overlay(name), providers), [])

            def policy(objects: list[Object]) -> Object:
                return one(objects, "AuthorizationPolicy", "scoregate")

            some = [{"to": [{"operation": {"notPaths": ["/healthz"]}}]}]
            planted: list[tuple[str, Callable[[list[Object]], object]]] = [
                ("not every request", lambda objects: objects.remove(policy(objects))),
                ("not every request", lambda objects: policy(objects)["spec"].update(rules=some)),
                ("not every request", lambda objects: policy(objects)["spec"].update(action="ALLOW")),
                ("no provider", lambda objects: policy(objects)["spec"]["provider"].update(name="x")),
                ("dry run", lambda objects: policy(objects)["metadata"].update(annotations={"istio.io/dry-run": "true"})),
                ("may add routes", lambda objects: one(objects, "Gateway", "ingress")["spec"]["servers"][0].update(hosts=["*"])),
            ]
            for problem, plant in planted:
                with self.subTest(name, problem=problem):
                    self.finds(lambda objects: manifests.unguarded_by_istio(objects, providers), problem, name, plant)
            slow = copy.deepcopy(providers)
            slow[0]["envoyExtAuthzGrpc"].pop("timeout")
            slow[0]["envoyExtAuthzGrpc"]["timeout"] = "600s"
            self.assertIn("slow", manifests.unguarded_by_istio(overlay(name), slow)[0])
            elsewhere = copy.deepcopy(providers)
            elsewhere[0]["envoyExtAuthzGrpc"]["port"] = 9999
            self.assertIn("nobody is", manifests.unguarded_by_istio(overlay(name), elsewhere)[0])

    def test_envoy_gateway_tells_the_service_of_every_route(self) -> None:
        check = manifests.unguarded_by_envoy_gateway
        self.finds_nothing(check, names=("envoy-gateway",))

        def policy(objects: list[Object], name: str = "forecast") -> Object:
            return one(objects, "SecurityPolicy", name)

        def settings(objects: list[Object]) -> Object:
            return policy(objects)["spec"]["extAuth"]

        def way(objects: list[Object]) -> Object:
            return one(objects, "HTTPRoute", "forecast")["spec"]["rules"][0]

        default = "refuse-what-names-no-service"
        planted: list[tuple[str, Callable[[list[Object]], object]]] = [
            ("HTTPRoute forecast", lambda objects: objects.remove(policy(objects))),
            ("HTTPRoute forecast", lambda objects: settings(objects)["contextExtensions"][0].update(value="ranking")),
            ("is not refused", lambda objects: objects.remove(policy(objects, default))),
            ("not let in", lambda objects: settings(objects).pop("recomputeRoute")),
            ("not let in", lambda objects: way(objects)["matches"][0].pop("headers")),
            ("not let in", lambda objects: way(objects)["matches"][0]["headers"][0].update(value="ranking")),
            ("callers may say", lambda objects: one(objects, "ClientTrafficPolicy", "ingress")["spec"].update(headers={})),
            ("slow", lambda objects: settings(objects).update(timeout="10s")),
            ("open", lambda objects: settings(objects).update(failOpen=True)),
        ]
        for problem, plant in planted:
            with self.subTest(problem):
                self.finds(check, problem, "envoy-gateway", plant)


class Configuration(unittest.TestCase):
    """What the containers start with, in the eyes of the program itself, and with the Secrets of README.md's commands."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="scoregate-k8s-")))
        cls.made = contents(secrets_of_readme(cls.folder))
        cls.binary = built_for_tests()

    def test_secrets_are_those_that_the_readme_makes(self) -> None:
        by_hand = {"ingress-tls", "gate-client-tls", "monitoring-tls"}
        self.assertEqual(self.made.keys() | by_hand, secrets().keys())
        for name, keys in self.made.items():
            self.assertEqual(keys.keys(), secrets()[name], name)

    def test_every_file_is_in_a_secret(self) -> None:
        check = lambda objects: manifests.files_without_secret(objects, secrets())  # noqa: E731
        for name in OVERLAYS:
            self.assertEqual(check(overlay(name)), [], name)
        objects = copy.deepcopy(overlay("istio"))
        volumes = pod_of(objects)["volumes"]
        next(each for each in volumes if each["name"] == "policy")["secret"]["secretName"] = "other"
        self.assertIn("gate: /etc/scoregate/policy/pepper is in no Secret", check(objects))
        self.assertIn("Secret other is not in README.md", check(objects))

    def test_peers_are_known_by_names_in_their_certificates(self) -> None:
        names = {name: alternative_names(each["tls.crt"]) for name, each in self.made.items() if "tls.crt" in each}
        self.assertEqual(names["workspace-tls"], {"workspace.scoregate.svc", "localhost"})
        for name in OVERLAYS:
            text = json.dumps(overlay(name))
            hosts = {first or second for first, second in re.findall(r'https://([\w.]+):|feed = \\"([\w.]+):', text)}
            allowed = set(re.findall(r"dns:([\w.-]+)", text))
            self.assertLessEqual(hosts, names["workspace-tls"] | names["gate-tls"])
            self.assertLessEqual(allowed, names["gate-tls"] | {"ingress.scoregate.svc", "monitoring.scoregate.svc"})
        istio = one(overlay("istio-aks-addon"), "DestinationRule", "gate")["spec"]["trafficPolicy"]["tls"]
        envoy_gateway = one(overlay("envoy-gateway"), "BackendTLSPolicy", "gate")["spec"]["validation"]
        wanted_by_envoy = {istio["sni"], *istio["subjectAltNames"], envoy_gateway["hostname"]}
        self.assertLessEqual(wanted_by_envoy, names["gate-tls"])

    def test_the_program_accepts_it(self) -> None:
        for name in OVERLAYS:
            for role in ("gate", "workspace"):
                with self.subTest(name, role=role):
                    self.assertEqual(self.verdict(overlay(name), role), "")

    def test_the_program_would_refuse_a_slip_of_the_pen(self) -> None:
        for role, key in (("gate", "peer_listen"), ("workspace", "feed_listen")):
            objects = copy.deepcopy(overlay("istio"))
            file = next(each for each in of_kind(objects, "ConfigMap") if f"{role}.toml" in each["data"])
            file["data"][f"{role}.toml"] = file["data"][f"{role}.toml"].replace(key, f"{key}er")
            self.assertIn(f"{key}er", self.verdict(objects, role))
        objects = copy.deepcopy(overlay("istio"))
        gate = container(pod_of(objects), "gate")
        gate["env"] = [{"name": "SCOREGATE__GATE__TARGETS", "value": "host_path"}]
        self.assertIn("gate.targets", self.verdict(objects, "gate"))
        gate["env"] = [{"name": "SCOREGATE__GATE__EXT_AUTHZ_LISTEN", "value": "0.0.0.0:9191"}]
        self.assertIn("gate.tls", self.verdict(objects, "gate"))

    def test_commands_of_the_readme_are_the_programs(self) -> None:
        text = (ROOT / README).read_text().replace("\\\n", " ")
        commands = re.findall(r"(?m)^ +(?:kubectl exec .* -- )?scoregate ([a-z][^#\n`]*)", text)
        self.assertGreaterEqual(len(commands), 1)
        for command in [*commands, "apply --file-of-nobody x"]:
            done = subprocess.run([self.binary, *command.split()], env={"HOME": "/"}, cwd=ROOT, capture_output=True)
            # There is no workspace here: another failure is none of the command's.
            self.assertEqual(done.returncode == 2, command.endswith("of-nobody x"), done.stderr.decode())

    def verdict(self, objects: list[Object], role: str) -> str:
        """What the program has against the configuration of a role's container; empty for nothing."""
        pod = next(spec for _, _, spec in pods(objects) if manifests.container_named(spec, role))
        each = container(pod, role)
        root = Path(tempfile.mkdtemp(dir=self.folder))
        [_, _, config], variables = manifests.lay_out(objects, pod, each, self.made, root)
        command = [self.binary, "config", "check", "--config", config, *(["--gate"] if role == "gate" else [])]
        done = subprocess.run(command, env={"PATH": os.environ["PATH"]} | variables, capture_output=True, text=True)
        return done.stderr if done.returncode or "warning" in done.stderr else ""


class Restore(unittest.TestCase):
    """README.md's commands, with a kubectl that has a StatefulSet and takes what comes."""

    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.workspace = one(manifests.rendered("base/workspace"), "StatefulSet", "workspace")
        (folder / "found").write_text(json.dumps(self.workspace))
        kubectl = folder / "kubectl"
        kubectl.write_text(
            '#!/bin/sh\ncd "${0%/*}"\necho "$@" >> calls\ncase $1 in get) cat found;; apply) cat > applied;; esac\n'
        )
        kubectl.chmod(0o755)
        (script,) = blocks("Restore", "sh", README)
        subprocess.run(["sh", "-euc", script], check=True, env={"PATH": f"{folder}:{os.environ['PATH']}"})
        self.calls = [line.split()[0] for line in (folder / "calls").read_text().splitlines()]
        self.pod = json.loads((folder / "applied").read_text())

    def test_workspace_is_stopped_meanwhile(self) -> None:
        # What is got goes to what applies it: both run at one time.
        calls = [call for call in self.calls if call != "get"]
        self.assertEqual(calls, ["scale", "wait", "apply", "wait", "logs", "delete", "scale"])

    def test_pod_is_the_workspaces_with_its_volume_and_ends(self) -> None:
        spec, template = self.pod["spec"], self.workspace["spec"]["template"]["spec"]
        self.assertEqual(spec["restartPolicy"], "Never")
        self.assertEqual(spec["securityContext"], template["securityContext"])
        [restore], [workspace] = spec["containers"], template["containers"]
        for kept in ("image", "securityContext", "volumeMounts", "env", "resources"):
            self.assertEqual(restore[kept], workspace[kept])
        self.assertEqual({each["name"] for each in restore["volumeMounts"]}, {each["name"] for each in spec["volumes"]})
        [claim] = [each["persistentVolumeClaim"]["claimName"] for each in spec["volumes"] if each["name"] == "data"]
        [made] = self.workspace["spec"]["volumeClaimTemplates"]
        self.assertEqual(claim, f"{made['metadata']['name']}-{self.workspace['metadata']['name']}-0")

    def test_program_knows_the_command(self) -> None:
        [restore] = self.pod["spec"]["containers"]
        subprocess.run([built_for_tests(), *restore["args"], "--help"], check=True, stdout=subprocess.DEVNULL)


class Image(unittest.TestCase):
    def test_program_is_small_and_needs_the_c_library_only(self) -> None:
        """Of the unoptimised program without its symbols, for the optimised one is smaller (11.9 and 9.3 MB were measured),
        and no test should wait for it to be built."""
        with tempfile.TemporaryDirectory() as folder:
            stripped = Path(folder, "scoregate")
            subprocess.run(["strip", "-o", stripped, built_for_tests()], check=True)
            size = len(gzip.compress(stripped.read_bytes(), 9))
            self.assertLess(size, PROGRAM_BUDGET)
            needed = subprocess.run(["readelf", "--dynamic", stripped], check=True, capture_output=True, text=True).stdout
        libraries = set(re.findall(r"NEEDED.*\[(.*)\]", needed))
        self.assertLessEqual(libraries, {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"})

    def test_context_has_what_is_compiled_and_no_more(self) -> None:
        allowed = re.findall(r"(?m)^!(.+)$", (ROOT / ".dockerignore").read_text())
        is_there = lambda path: any(path.is_relative_to(ROOT / each) for each in allowed)  # noqa: E731
        for source in (ROOT / "src").rglob("*.rs"):
            for name in re.findall(r'include_(?:str|bytes)!\("(.+?)"\)', source.read_text()):
                self.assertTrue(is_there((source.parent / name).resolve()), f"{source.name} includes {name}")
        for needed in ("Cargo.toml", "Cargo.lock", "build.rs", "crates/authz/Cargo.toml", "proto", "migrations"):
            self.assertTrue(is_there(ROOT / needed), needed)
        for kept_out in (".git", "target", ".parts", "scoregate-data"):
            self.assertFalse(is_there(ROOT / kept_out), kept_out)

    def test_versions_are_those_of_the_manifests_and_of_cargo(self) -> None:
        cargo = (ROOT / "Cargo.toml").read_text()
        version = re.search(r'(?m)^version = "(.+)"', cargo)[1]
        rust = re.search(r'(?m)^rust-version = "(.+)"', cargo)[1]
        dockerfile = (ROOT / "Dockerfile").read_text()
        self.assertIn(f"FROM rust:{rust}-bookworm AS source", dockerfile)
        stages = re.findall(r"(?m)^FROM .* AS ([\w-]+)$", dockerfile)
        self.assertEqual(stages[-2:], ["scoregate-gate", "scoregate"])
        for name in OVERLAYS:
            for _, labels, pod in pods(overlay(name)):
                self.assertEqual(labels["app.kubernetes.io/version"], version)
                images = {each["image"] for each in pod["containers"] if each["image"].startswith("scoregate")}
                self.assertLessEqual(images, {f"scoregate:{version}", f"scoregate-gate:{version}"})


def pod_of(objects: list[Object]) -> Object:
    """The pod that the gate is in."""
    return one(objects, "Deployment", "gate")["spec"]["template"]["spec"]


def gate_environment(name: str) -> dict[str, str]:
    return manifests.environment(overlay(name), container(pod_of(overlay(name)), "gate"))


def alternative_names(certificate: bytes) -> set[str]:
    command = ["openssl", "x509", "-noout", "-ext", "subjectAltName"]
    text = subprocess.run(command, input=certificate, check=True, capture_output=True).stdout.decode()
    return set(re.findall(r"DNS:([\w.-]+)", text))


if __name__ == "__main__":
    unittest.main()
