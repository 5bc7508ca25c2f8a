"""The overlays for Istio at a real istiod, and callers at the Envoy that it drives."""

from __future__ import annotations

import json
from contextlib import ExitStack

import callers
import golden
import installation
import overlays
import pods
import rig
from cluster import Cluster, Object, namespace_of_name
from harness import wait_until
from installation import GATE_ADDRESSES, INGRESS_ADDRESS, MODEL_ADDRESSES, MODEL_PORT, Installation
from manifests import of_kind, one
from mesh import NO_CLUSTER, Istiod, Proxy, istioctl

PROVIDER = overlays.FOLDER / "overlays" / "istio" / "istiod-values.yaml"
HOST = f"{callers.FORECAST}{callers.SUFFIX}"
# As in the name of the ConfigMap in istio-aks-addon.
REVISION = "asm-1-28"
ADDON, ADDON_GATEWAYS = "aks-istio-system", "aks-istio-ingress"
EXTERNAL_GATEWAY = "aks-istio-ingressgateway-external"
# What the add-on has before anybody installs anything: its external gateway.
ADDON_COMPONENTS = f"""
components:
  ingressGateways:
  - name: {EXTERNAL_GATEWAY}
    namespace: {ADDON_GATEWAYS}
    enabled: true
    label: {{ istio: {EXTERNAL_GATEWAY} }}
"""


class Mesh:
    """An overlay, applied as it is to an API server of its own, with an istiod, an Envoy and an installation."""

    def __init__(self, overlay: str, page: str, gates: int) -> None:
        self.overlay, self.page, self.gates = overlay, page, gates
        self.processes, self.folder = rig.current.processes, rig.current.folder / overlay
        self.folder.mkdir()
        self.cluster = Cluster(self.processes, self.folder)
        self.istiod = self.new_istiod()
        self.running = ExitStack()

    def new_istiod(self) -> Istiod:
        return Istiod(self.processes, self.folder, self.cluster)

    def start(self) -> None:
        files = self.folder / "installation"
        self.secrets = installation.secrets_of(files, self.page)
        self.running.callback(self.cluster.stop)
        self.cluster.start()
        self.cluster.install_crds("istio")
        self.cluster.apply(namespace_of_name(name) for name in overlays.OTHERS_NAMESPACES)
        self.cluster.apply(overlays.build("base/namespace"))
        self.install_istiod()
        self.running.callback(self.istiod.stop)
        self.istiod.start()
        self.cluster.apply(self.secrets)
        self.objects = self.cluster.apply(overlays.build(f"overlays/{self.overlay}"))
        self.installation = Installation(
            self.processes, files, rig.current.scoregate, self.objects, self.secrets, self.gates
        )
        self.running.callback(self.installation.stop)
        self.installation.start()
        pods.run_models(self.cluster, MODEL_ADDRESSES, MODEL_PORT)
        pod, service = self.start_gateway()
        pods.lead(self.cluster, service, [pod])
        self.proxy = Proxy(self.istiod, pod)
        self.running.callback(self.proxy.stop)
        self.proxy.start()
        [target] = [each["targetPort"] for each in service["spec"]["ports"] if each["port"] == 443]
        self.port = pods.port_of(pod, target)

    def install_istiod(self) -> None:
        self.istiod.install(PROVIDER.read_text())

    def start_gateway(self) -> tuple[Object, Object]:
        """The pod that callers come to, and its Service. Here it is the gate's."""
        gate = one(self.objects, "Deployment", "gate")
        pod = pods.run(self.cluster, pods.pod_of(gate, "gate-0"), GATE_ADDRESSES[0])
        return pod, one(self.objects, "Service", "ingress")


class AddonsMesh(Mesh):
    """With istiod and gateway in place of Microsoft's: those of the same Istio, under the add-on's names."""

    def new_istiod(self) -> Istiod:
        shared = {"SHARED_MESH_CONFIG": f"istio-shared-configmap-{REVISION}"}
        return Istiod(self.processes, self.folder, self.cluster, ADDON, REVISION, shared)

    def install_istiod(self) -> None:
        self.istiod.install(ADDON_COMPONENTS)
        self.cluster.apply(overlays.SHARED_MESH.read_text())

    def start_gateway(self) -> tuple[Object, Object]:
        gate = one(self.objects, "Deployment", "gate")
        gates = [
            pods.run(self.cluster, pods.pod_of(gate, f"gate-{number}"), GATE_ADDRESSES[number])
            for number in range(self.gates)
        ]
        pods.lead(self.cluster, one(self.objects, "Service", "gate"), gates)
        gateway = one(self.istiod.objects, "Deployment", EXTERNAL_GATEWAY)
        pod = pods.run(self.cluster, pods.pod_of(gateway, "gateway-0"), INGRESS_ADDRESS)
        return pod, one(self.istiod.objects, "Service", EXTERNAL_GATEWAY)


class InMesh:
    """What both overlays have to do, beside what callers see."""

    mesh: Mesh

    @classmethod
    def bring_up(cls: type[callers.Callers], mesh: Mesh) -> None:
        cls.mesh = mesh
        cls.addClassCleanup(mesh.running.close)
        mesh.start()
        cls.installation = mesh.installation
        cls.entrance = callers.Entrance(mesh.proxy.pod["status"]["podIP"], mesh.port, mesh.installation.ca)
        cls.credentials = callers.Credentials.of(mesh.installation)

    def test_what_istiod_emits_was_committed(self) -> None:
        golden.compare(self.mesh.overlay, golden.emitted(self.mesh.proxy.admin, self.mesh.port))

    def test_istioctl_finds_nothing(self) -> None:
        self.assertEqual(self.findings(self.everything()), [])

    def test_istioctl_would_find_what_is_wrong(self) -> None:
        for kind, name, change, found in (
            ("Gateway", "ingress", lambda spec: spec["selector"].update(istio="nobody"), "IST0101"),
            ("Gateway", "ingress", lambda spec: spec["servers"][0]["tls"].update(credentialName="none"), "IST0101"),
            ("VirtualService", HOST, lambda spec: spec.update(gateways=["another"]), "IST0101"),
            ("VirtualService", HOST, lambda spec: spec["http"][0].update(timeout="-1s"), "duration must be"),
            ("AuthorizationPolicy", "scoregate", lambda spec: spec["provider"].update(name=""), "provider"),
        ):
            objects = self.everything()
            change(one(objects, kind, name)["spec"])
            with self.subTest(kind, found=found):
                self.assertIn(found, "\n".join(self.findings(objects)))

    def everything(self) -> list[Object]:
        """The overlay, with what it needs."""
        mesh, parse = self.mesh, self.mesh.cluster.parse
        models = of_kind(parse(overlays.MODELS.read_text()), "Service")
        texts = overlays.build("base/namespace"), overlays.build(f"overlays/{mesh.overlay}")
        return [each for text in texts for each in parse(text)] + models + mesh.secrets

    def findings(self, objects: list[Object]) -> list[str]:
        """What `istioctl validate` and `istioctl analyze` say of manifests, by themselves and in the cluster."""
        manifests, mesh = self.mesh.folder / "manifests.yaml", self.mesh.folder / "mesh.yaml"
        # Of a List, istioctl sees nothing.
        manifests.write_text("\n---\n".join(json.dumps(each) for each in objects))
        mesh.write_text(self.mesh.istiod.mesh_config())
        validated = istioctl("validate", "--filename", manifests)
        found = [line for line in validated.stderr.splitlines() if line and not line.endswith(" is valid")]
        offline = ("--use-kube=false", "--all-namespaces", "--meshConfigFile", mesh)
        for flags, kubeconfig in ((offline, NO_CLUSTER), (("--namespace", "scoregate"), self.mesh.cluster.kubeconfig)):
            flags = ("--kubeconfig", kubeconfig, *flags, "--output", "json")
            analyzed = istioctl("analyze", *flags, manifests, kubeconfig=kubeconfig)
            found += [f"{each['code']} {each['origin']}: {each['message']}" for each in json.loads(analyzed.stdout)]
        return found

    def test_a_provider_that_istiod_does_not_know_refuses_everything(self) -> None:
        self.refuses_everything_with({"spec": {"provider": {"name": "another"}}})

    def test_a_dry_run_refuses_everything(self) -> None:
        self.refuses_everything_with({"metadata": {"annotations": {"istio.io/dry-run": "true"}}})

    def refuses_everything_with(self, change: Object) -> None:
        """As docs/install/istio.md says of some changes of the policy."""
        policy = one(self.mesh.objects, "AuthorizationPolicy", "scoregate")
        name, namespace = policy["metadata"]["name"], policy["metadata"]["namespace"]
        key = callers.bearer(self.credentials.primary)
        self.addCleanup(self.wait_for_status, 200, *key)
        [whole] = of_kind(self.everything(), "AuthorizationPolicy")
        self.addCleanup(self.mesh.cluster.kubectl, "replace", "-f", "-", documents=json.dumps(whole))
        flags = ("--namespace", namespace, "--type", "merge", "--patch", json.dumps(change))
        self.mesh.cluster.kubectl("patch", "authorizationpolicies.security.istio.io", name, *flags)
        self.wait_for_status(403, *key)
        for headers in (key, ()):
            outcome = self.send(callers.FORECAST, *headers)
            self.assertEqual((outcome.status, outcome.asked, outcome.seen), (403, 0, []))
            self.assertEqual(outcome.answer.body, "RBAC: access denied")

    def wait_for_status(self, status: int, *headers: tuple[str, str]) -> None:
        wait_until(f"status {status}", lambda: self.send(callers.FORECAST, *headers).status == status, 20)


class Istio(InMesh, callers.Callers):
    """The gate is in the gateway's pod."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.bring_up(Mesh("istio", "istio.md", gates=1))


class IstioAksAddon(InMesh, callers.Callers):
    """Gates behind a Service, over mutual TLS."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.bring_up(AddonsMesh("istio-aks-addon", "istio-aks-addon.md", gates=2))
