"""A real Envoy Gateway takes the overlay for it as it is, and the real Envoy that it runs keeps what the overlay promises."""

from __future__ import annotations

import copy
import json
import secrets
import time
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
PORT = 443
# Not that of k8s/example/models: Envoy Gateway takes it on all addresses, and cannot be told otherwise.
MODEL_PORT = 8090

# What Envoy Gateway reads of the overlay, and says whether it takes it.
KINDS = (
    *("GatewayClass", "EnvoyProxy", "Gateway", "ClientTrafficPolicy"),
    *("HTTPRoute", "SecurityPolicy", "BackendTLSPolicy"),
)


class EnvoyGateway(callers.Callers):
    cluster: Cluster
    gateway: Gateway
    # Of the overlay, and of the commands in docs/install.
    objects: list[Object]
    secrets: list[Object]
    gate_pods: list[Object]

    @classmethod
    def setUpClass(cls) -> None:
        processes, folder = rig.current.processes, rig.current.folder / "envoy-gateway"
        cls.secrets = secrets_of(folder, "envoy-gateway.md")
        # Not the one of all: objects of other overlays have the same names.
        cls.cluster = Cluster(processes, folder)
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.start()
        cls.cluster.install_crds("envoy-gateway")
        cls.objects = cls.cluster.parse(overlays.build("overlays/envoy-gateway"))
        cls.cluster.apply(overlays.build("base/namespace"))
        cls.cluster.apply(cls.objects)
        cls.installation = Installation(
            processes, folder, rig.current.scoregate, cls.objects, cls.secrets, model_port=MODEL_PORT
        )
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
        cls.gate_pods = [pods.run(cls.cluster, gate, GATE_ADDRESSES[0])]
        cls.make_way_to_gate()
        pods.run_models(cls.cluster, MODEL_ADDRESSES, MODEL_PORT)

    def test_all_of_the_overlay_is_accepted(self) -> None:
        for each in of_kind(self.objects, *KINDS):
            kind, about = each["kind"], each["metadata"]
            with self.subTest(kind, name=about["name"]):
                read = self.cluster.read(kind, about["name"], about.get("namespace", NAMESPACE))
                found = list(conditions(read["status"]))
                self.assertIn("Accepted", {it.type for it in found})
                self.assertEqual({it.generation for it in found}, {read["metadata"]["generation"]})
                # It is about the Service of Envoy's pods, which are a process here.
                known = {("Programmed", "AddressNotAssigned")} if kind == "Gateway" else set()
                self.assertEqual([it for it in found if it.status != "True" and (it.type, it.reason) not in known], [])

    def test_what_is_emitted_is_the_golden_file(self) -> None:
        golden.compare("envoy-gateway", golden.emitted(self.gateway.admin, PORT))

    def test_the_access_log_has_the_call_and_its_decision_and_no_secret(self) -> None:
        key = bearer(self.credentials.primary)
        forged = ("x-envoy-original-path", "/forged")
        for headers, reason in ((key, "ok"), ((), "missing_credential"), (bearer("wrong"), "unknown_key")):
            with self.subTest(reason):
                mark = f"/{secrets.token_hex(8)}"
                self.send(FORECAST, *headers, forged, target=f"{SCORE}{mark}?secret=in-the-query")
                line = wait_until("a line in the access log", lambda: self.gateway.logged(mark), 30)  # noqa: B023
                entry = json.loads(line)
                self.assertEqual((entry["reason"], entry["service"]), (reason, FORECAST))
                self.assertEqual(entry["path"], f"{SCORE}{mark}")
                for secret in (self.credentials.primary, "in-the-query"):
                    self.assertNotIn(secret, line)

    def test_routes_say_the_service_and_nothing_else_does(self) -> None:
        """What a request's host and path would say is something else here."""
        for host, path, named in (
            (RANKING, "/api/v1/service/ranking/also", FORECAST),
            (FORECAST, "/api/v1/service/ranking", FORECAST),
            (FORECAST, "/elsewhere", RANKING),
        ):
            with self.subTest(host, path=path, named=named):
                self.add_route("odd", host, path, named)
                right, wrong = self.credentials.primary, self.credentials.token
                if named == RANKING:
                    right, wrong = wrong, right
                scored = lambda: self.send(host, *bearer(right), target=f"{path}/score")  # noqa: B023, E731
                self.allowed(self.eventually(scored, 200), FORECAST)
                outcome = self.send(host, *bearer(wrong), target=f"{path}/score")
                self.refused(outcome, "wrong_credential_kind")

    def test_routes_without_a_policy_are_refused(self) -> None:
        self.add_route("bare", FORECAST, "/bare", policy=False)
        self.eventually(lambda: self.send(FORECAST, target="/bare"), 401)
        for headers in ((), bearer(self.credentials.primary), bearer(self.credentials.token)):
            outcome = self.send(FORECAST, *headers, ("service", FORECAST), target="/bare/score")
            self.refused(outcome, "unknown_service")

    def test_a_route_that_is_new_is_never_open(self) -> None:
        """Also on connections from before it: for them, Envoy knows the route and not its policy."""
        earlier = [self.entrance.connect() for _ in range(40)]
        for connection in earlier:
            connection.request("POST", SCORE, "{}", {"host": f"{FORECAST}{SUFFIX}"})
            connection.getresponse().read()
        before = len(self.models[FORECAST].seen)
        self.add_route("late", FORECAST, "/late")
        statuses: set[int] = set()
        ends = time.monotonic() + 20
        while earlier and time.monotonic() < ends:
            for connection in (self.entrance.connect(), earlier[0]):
                try:
                    connection.request("POST", "/late/score", "{}", {"host": f"{FORECAST}{SUFFIX}"})
                    answer = connection.getresponse()
                    answer.read()
                    statuses.add(answer.status)
                    going_on = answer.getheader("connection") != "close"
                except ConnectionError:
                    going_on = False
                if connection is earlier[0] and not going_on:
                    earlier.pop(0)
            time.sleep(0.02)
        self.eventually(lambda: self.send(FORECAST, target="/late/score"), 401)
        self.assertLessEqual(statuses, {401, 404, 503})
        self.assertEqual(len(self.models[FORECAST].seen), before)

    def test_without_any_policy_nobody_gets_to_a_model(self) -> None:
        policies = of_kind(self.objects, "SecurityPolicy")
        self.addCleanup(self.eventually, lambda: self.send(FORECAST), 401)
        self.addCleanup(self.cluster.apply, policies)
        for each in policies:
            self.delete(each["kind"], each["metadata"]["name"])
        self.eventually(lambda: self.send(FORECAST), 503)
        for headers in ((), bearer(self.credentials.primary), (("x-scoregate-service", FORECAST),)):
            outcome = self.send(FORECAST, *headers)
            self.assertEqual((outcome.status, outcome.asked, outcome.seen), (503, 0, []))

    def test_encoded_slashes_and_names_with_underscores_are_answered_before_the_gate(self) -> None:
        key = bearer(self.credentials.primary)
        for target in (f"{SCORE}%2F", f"{SCORE}%2f..%2fscore", "/api/v1/service/forecast%2Fscore", f"{SCORE}%5c"):
            with self.subTest(target):
                self.answered_before_the_gate(self.send(FORECAST, *key, target=target))
        for name in ("x_anything", "content_type"):
            with self.subTest(name):
                self.answered_before_the_gate(self.send(FORECAST, *key, (name, "1")))

    def answered_before_the_gate(self, outcome: Outcome) -> None:
        self.assertEqual((outcome.status, outcome.reasons, outcome.seen), (400, Counter(), []))

    def test_what_is_missing_on_the_way_to_the_gate_is_a_failure(self) -> None:
        """While Envoy learns of it, too: whoever is let through, a gate has let through."""
        key = bearer(self.credentials.primary)
        for kind, name in (("endpointslice", "gate-1"), ("service", "gate"), ("secret", "gate-client-tls")):
            with self.subTest(kind):
                self.addCleanup(self.make_way_to_gate)
                self.cluster.kubectl("delete", kind, name, "--namespace", NAMESPACE)
                self.until(lambda: self.send_past_no_gate(*key), lambda it: it.status >= 500)
                for headers in (key, ()) * 5:
                    self.assertGreaterEqual(self.send_past_no_gate(*headers).status, 500)
                self.make_way_to_gate()
                self.recovers()

    def send_past_no_gate(self, *headers: tuple[str, str]) -> Outcome:
        outcome = self.send(FORECAST, *headers)
        self.assertEqual(len(outcome.seen), outcome.asked)
        self.assertEqual(outcome.status == 200, outcome.asked == 1)
        return outcome

    @classmethod
    def make_way_to_gate(cls) -> None:
        service = one(cls.objects, "Service", "gate")
        cls.cluster.apply([service, *cls.secrets])
        pods.lead(cls.cluster, service, cls.gate_pods)

    def add_route(self, name: str, host: str, path: str, service: str = FORECAST, policy: bool = True) -> None:
        """A route to forecast's model for those whom the gate lets in to a service, until the end of the test."""
        route = self.copy_of("HTTPRoute", FORECAST, name)
        route["spec"]["hostnames"] = [f"{host}{SUFFIX}"]
        for rule in route["spec"]["rules"]:
            rule["matches"][0]["path"]["value"] = path
        route["spec"]["rules"][0]["matches"][0]["headers"][0]["value"] = service
        added = [route]
        if policy:
            added.append(self.copy_of("SecurityPolicy", service, name))
            added[-1]["spec"]["targetRefs"][0]["name"] = name
        for each in added:
            self.addCleanup(self.delete, each["kind"], name)
        self.cluster.apply(added)

    def copy_of(self, kind: str, name: str, new_name: str) -> Object:
        copied = copy.deepcopy(one(self.objects, kind, name))
        copied["metadata"]["name"] = new_name
        return copied

    def delete(self, kind: str, name: str) -> None:
        self.cluster.kubectl("delete", kind, name, "--namespace", NAMESPACE, "--ignore-not-found")

    def eventually(self, send: Callable[[], Outcome], status: int) -> Outcome:
        return self.until(send, lambda it: it.status == status)

    def until(self, send: Callable[[], Outcome], wanted: Callable[[Outcome], bool]) -> Outcome:
        """What comes when Envoy has taken over what was applied."""
        found: list[Outcome] = []

        def probe() -> bool:
            found.append(send())
            return wanted(found[-1])

        wait_until("Envoy to take it over", probe, 30)
        return found[-1]
