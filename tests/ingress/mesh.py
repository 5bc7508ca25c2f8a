"""A real istiod, as its own charts install it, and a real Envoy that it drives.

istiod runs with the arguments, variables and rights of its Deployment, beside a real API server. Envoy proves itself with
the token of its pod's account, over TLS, as Istio's agent does for it, and gets its certificates from istiod too.

What is not as in a cluster:
- Envoy is stock Envoy, which has none of Istio's own filters: they are for telemetry and the mesh's own TLS, and turned off
  (`LEFT_OUT`).
- Istio's agent is not there. Its part, Envoy's bootstrap, is here, with what the agent tells istiod of its pod.
- Nothing forwards from a Service to a pod: istiod listens for the API server at its Service's own address.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import textwrap
from pathlib import Path

from cluster import Cluster, Object, namespace_of_name
from harness import Process, Processes, answers, free_port
from manifests import container, one
from parts import program

# Filters that only Istio's build of Envoy has, and certificates that only the agent hands out: those of the mesh, which
# neither gates nor models have.
LEFT_OUT = {"PILOT_ENABLE_METADATA_EXCHANGE": "false", "PILOT_ENABLE_ALPN_FILTER": "false"}
LEFT_OUT_SETTINGS = ("values.telemetry.enabled=false", "meshConfig.enableAutoMtls=false")

NO_CLUSTER = Path("/dev/null")
AGENTS_AUDIENCE = "istio-ca"


def istioctl(*arguments: str | Path, kubeconfig: Path = NO_CLUSTER) -> subprocess.CompletedProcess[str]:
    """Never with a cluster that this machine is set up for."""
    command = [program("istio", "istioctl"), *arguments]
    env = os.environ | {"KUBECONFIG": str(kubeconfig)}
    return subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def done(completed: subprocess.CompletedProcess[str]) -> str:
    if completed.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, completed.args))}: {completed.stderr.strip()}")
    return completed.stdout


class Istiod:
    def __init__(
        self,
        processes: Processes,
        folder: Path,
        cluster: Cluster,
        namespace: str = "istio-system",
        revision: str = "",
        environment: dict[str, str] | None = None,
    ) -> None:
        """`environment`: what is set in the Deployment beside what the charts set."""
        self.processes, self.folder, self.cluster = processes, folder, cluster
        self.namespace, self.revision, self.environment = namespace, revision, environment or {}
        self.objects: list[Object] = []
        self.process: Process | None = None

    @property
    def name(self) -> str:
        return self.named("istiod")

    def named(self, name: str) -> str:
        return f"{name}-{self.revision}" if self.revision else name

    def install(self, values: str = "") -> None:
        """`values`: a file for Helm's `--values`; an IstioOperator's `spec` takes the same."""
        operator = self.folder / "operator.yaml"
        head = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  profile: minimal\n"
        operator.write_text(head + textwrap.indent(values, "  "))
        settings = [*LEFT_OUT_SETTINGS, f"values.global.istioNamespace={self.namespace}"]
        if self.revision:
            settings.append(f"revision={self.revision}")
        flags = [word for setting in settings for word in ("--set", setting)]
        manifests = done(istioctl("manifest", "generate", "--filename", operator, *flags))
        self.cluster.apply([namespace_of_name(self.namespace)])
        objects = [each for each in self.cluster.parse(manifests) if each["kind"] != "CustomResourceDefinition"]
        self.objects = self.cluster.apply(objects)

    def start(self) -> None:
        service = one(self.objects, "Service", self.name)
        discovery = container(one(self.objects, "Deployment", self.name)["spec"]["template"]["spec"], "discovery")
        env = {each["name"]: each["value"] for each in discovery["env"] if "value" in each}
        env |= {"POD_NAME": f"{self.name}-0", "POD_NAMESPACE": self.namespace, "SERVICE_ACCOUNT": self.name}
        kubeconfig = self.kubeconfig()
        env |= {**LEFT_OUT, **self.environment, "KUBECONFIG": str(kubeconfig)}
        # All of this network's addresses are its own, but for a port that models have too.
        ready_address = "127.0.0.1:8080"
        command = [program("istio", "pilot-discovery"), *discovery["args"], "--kubeconfig", kubeconfig]
        command += ["--httpAddr", ready_address, "--httpsAddr", f"{service['spec']['clusterIP']}:443"]
        self.process = self.processes.start(f"{self.folder.name}-istiod", *command, env=env, cwd=self.folder)
        ready = lambda: answers(f"http://{ready_address}/ready")  # noqa: E731
        self.processes.wait("istiod", ready, self.process)
        for each in self.objects:
            if each["kind"].endswith("WebhookConfiguration"):
                self.wait_for_webhook(each["kind"], each["metadata"]["name"])

    def wait_for_webhook(self, kind: str, name: str) -> None:
        """Until istiod has said whom the API server may believe to be istiod."""
        known = "--for=jsonpath={.webhooks[0].clientConfig.caBundle}"
        self.cluster.kubectl("wait", known, f"{kind}/{name}", "--timeout=30s")

    def kubeconfig(self) -> Path:
        """With the rights of istiod's account."""
        config = json.loads(self.cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": self.cluster.token(self.name, self.namespace)}
        file = self.folder / "istiod.kubeconfig"
        file.write_text(json.dumps(config))
        return file

    def stop(self) -> None:
        if self.process is not None:
            self.processes.stop(self.process)
            self.process = None

    def mesh_config(self) -> str:
        return self.config_map("istio")["data"]["mesh"]

    def config_map(self, name: str) -> Object:
        return one(self.objects, "ConfigMap", self.named(name))


class Proxy:
    """Envoy, in place of the container `istio-proxy` of a pod."""

    def __init__(self, istiod: Istiod, pod: Object) -> None:
        """`pod`: as the API server has it, with its address."""
        self.istiod, self.pod = istiod, pod
        self.processes, self.folder, self.cluster = istiod.processes, istiod.folder, istiod.cluster
        self.admin = f"http://127.0.0.1:{free_port()}"
        self.process: Process | None = None

    @property
    def namespace(self) -> str:
        return self.pod["metadata"]["namespace"]

    def start(self) -> None:
        config = self.folder / "envoy.json"
        config.write_text(json.dumps(self.bootstrap()))
        self.process = self.processes.start(
            f"{self.folder.name}-envoy",
            *(program("envoy", "envoy"), "-c", config, "--use-dynamic-base-id", "--concurrency", "1"),
            *("--log-level", "warning"),
        )
        self.processes.wait("Envoy", lambda: answers(f"{self.admin}/ready"), self.process)

    def stop(self) -> None:
        if self.process is not None:
            self.processes.stop(self.process)
            self.process = None

    def bootstrap(self) -> Object:
        about, address = self.pod["metadata"], self.pod["status"]["podIP"]
        istiod = f"{self.istiod.name}.{self.istiod.namespace}.svc"
        account = self.pod["spec"]["serviceAccountName"]
        token = self.cluster.token(account, self.namespace, audience=AGENTS_AUDIENCE)
        grpc = {
            "envoy_grpc": {"cluster_name": "xds-grpc", "authority": istiod},
            "initial_metadata": [{"key": "authorization", "value": f"Bearer {token}"}],
        }
        ads = {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [grpc]}
        _, _, port = self.admin.rpartition(":")
        return {
            "node": {
                "id": f"router~{address}~{about['name']}.{self.namespace}~{self.namespace}.svc.cluster.local",
                "cluster": f"{about['labels'].get('istio')}.{self.namespace}",
                "metadata": self.metadata(account),
            },
            "admin": {"address": socket_address("127.0.0.1", int(port))},
            "dynamic_resources": {
                "lds_config": {"ads": {}, "resource_api_version": "V3"},
                "cds_config": {"ads": {}, "resource_api_version": "V3"},
                "ads_config": ads,
            },
            "static_resources": {"clusters": [self.xds_cluster(istiod)]},
        }

    def metadata(self, account: str) -> Object:
        """What the agent says of the pod, as far as istiod makes something of it here."""
        [proxy] = [each for each in self.pod["spec"]["containers"] if each["name"] == "istio-proxy"]
        env = {each["name"]: each.get("value", "") for each in proxy.get("env", ())}
        said = {name.removeprefix("ISTIO_META_"): value for name, value in env.items() if name.startswith("ISTIO_META_")}
        return {
            **said,
            "NAMESPACE": self.namespace,
            "SERVICE_ACCOUNT": account,
            "LABELS": self.pod["metadata"]["labels"],
            "PROXY_CONFIG": json.loads(env.get("PROXY_CONFIG") or "{}"),
        }

    def xds_cluster(self, istiod: str) -> Object:
        # istiod puts it into each namespace.
        roots = self.cluster.wait_for("configmap", "istio-ca-root-cert", self.namespace)["data"]["root-cert.pem"]
        name = {"san_type": "DNS", "matcher": {"exact": istiod}}
        trust = {
            "trusted_ca": {"inline_bytes": base64.b64encode(roots.encode()).decode()},
            "match_typed_subject_alt_names": [name],
        }
        tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
        http = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        endpoint = {"endpoint": {"address": socket_address("127.0.0.1", 15012)}}
        return {
            "name": "xds-grpc",
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [endpoint]}]},
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {"@type": tls, "sni": istiod, "common_tls_context": {"validation_context": trust}},
            },
            "typed_extension_protocol_options": {
                http: {
                    "@type": f"type.googleapis.com/{http}",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }
            },
        }


def socket_address(address: str, port: int) -> Object:
    return {"socket_address": {"address": address, "port_value": port}}
