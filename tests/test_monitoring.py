"""k8s/monitoring against a real Prometheus that scrapes a real system: rules, their unit tests, and the dashboard.

A workspace, a gate behind an Envoy, a gate with a policy file, callers of all kinds. Grafana cannot be had here: each
query of the dashboard is executed in its place, and has to return numbers.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import manifests  # noqa: E402
from harness import Process, Processes, answers, built_for_tests, free_port, read_json, request, wait_until  # noqa: E402
from parts import program  # noqa: E402
from readme import blocks  # noqa: E402
from system import System  # noqa: E402

MONITORING = ROOT / "k8s" / "monitoring"
README = "k8s/monitoring/README.md"
METRICS = ROOT / "docs" / "metrics.md"

# Alerts whose expression is true here although nothing is wrong; it would have to last for two days.
TRUE_HERE = {"ScoregateShadowLong": "a service is in shadow, for the panels that show it"}
# Of the kubelet, for which the test stands in.
FOREIGN = {
    "container_cpu_usage_seconds_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_cpu_cfs_periods_total",
    "container_memory_working_set_bytes",
}
# What stands in an expression and is no metric, beside functions.
WORDS = {"and", "or", "unless", "offset"}
# Grafana's variables, as it would put them in for a panel of a few minutes of this scrape interval.
VARIABLES = {"$namespace": "scoregate", "$gate": ".*", "$__rate_interval": "5s"}


class Rules(unittest.TestCase):
    def test_promtool_has_nothing_against_them(self) -> None:
        promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")

    def test_each_alert_fires_in_time_and_not_below_its_threshold(self) -> None:
        promtool("test", "rules", "tests.yaml", "tests-of-days.yaml")


class Manifests(unittest.TestCase):
    def test_kustomization_has_the_files(self) -> None:
        maps = {each["metadata"]["name"]: each["data"] for each in manifests.rendered("monitoring")}
        rules, dashboard = ((MONITORING / name).read_text() for name in ("rules.yaml", "dashboard.json"))
        wanted = {"scoregate-rules": {"rules.yaml": rules}, "scoregate-dashboard": {"scoregate.json": dashboard}}
        self.assertEqual(maps, wanted)

    def test_rules_of_the_operator_are_the_same(self) -> None:
        [command] = [block for block in blocks("Rules", "sh", README) if "PrometheusRule" in block]
        command = command.replace("kubectl apply --filename -", "cat")
        made = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        [rule], [rules] = manifests.read(made), manifests.read((MONITORING / "rules.yaml").read_text())
        self.assertEqual((rule["kind"], rule["spec"]), ("PrometheusRule", rules))
        # Azure takes no more in one group.
        self.assertLessEqual(max(len(group["rules"]) for group in rules["groups"]), 20)

    def test_scrape_configuration_is_one(self) -> None:
        [text] = blocks("Scraping", "yaml", README)
        # Debian's build knows no pods: targets in their place.
        text = text.replace("- role: pod\n    namespaces: { names: [scoregate] }", "- targets: [127.0.0.1:9192]")
        text = text.replace("kubernetes_sd_configs", "static_configs")
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            promtool("check", "config", "--syntax-only", file.name)

    def test_monitors_find_the_pods(self) -> None:
        """For one overlay of those with a gate in Envoy's pod, and one of those without."""
        secrets = re.search(r"(?m)^\| `monitoring-tls` \| (.*?) \|", (ROOT / "k8s" / "README.md").read_text())
        monitors = manifests.read((MONITORING / "podmonitors.yaml").read_text())
        self.assertEqual(len(monitors), 2)
        for overlay, monitor in itertools.product(("aks-ingress", "envoy-gateway"), monitors):
            with self.subTest(overlay, monitor=monitor["metadata"]["name"]):
                spec = monitor["spec"]
                wanted = spec["selector"]["matchLabels"].items()
                [endpoint] = spec["podMetricsEndpoints"]
                pods = manifests.pods(manifests.rendered(f"overlays/{overlay}"))
                [(namespace, labels, pod)] = [found for found in pods if wanted <= found[1].items()]
                ports = [port["name"] for each in pod["containers"] for port in each["ports"]]
                self.assertEqual([namespace], spec["namespaceSelector"]["matchNames"])
                self.assertEqual(ports.count(endpoint["port"]), 1)
                component = labels["app.kubernetes.io/component"]
                tls = endpoint["tlsConfig"]
                self.assertEqual(tls["serverName"], f"{component}.scoregate.svc")
                keys = [tls["ca"]["secret"], tls["cert"]["secret"], tls["keySecret"]]
                self.assertEqual({key["name"] for key in keys}, {"monitoring-tls"})
                self.assertEqual({key["key"] for key in keys}, set(re.findall("`(.+?)`", secrets[1])))


class Expressions(unittest.TestCase):
    def test_metrics_are_found(self) -> None:
        expression = (
            'sum by (a, le) (rate(b_total{c="d", e=~"f(\\\\.0)?"}[5m])) > 0.5 * g unless on (h) (max(i:j:k offset 2m) > 1e9)'
        )
        self.assertEqual(names(expression), {"b_total", "g", "i:j:k"})
        self.assertEqual(selectors(expression), {'b_total{c="d", e=~"f(\\\\.0)?"}', "g", "i:j:k"})
        self.assertEqual(alternatives('a{b="c", d=~"e|f"}'), ['a{b="c", d="e"}', 'a{b="c", d="f"}'])
        self.assertEqual(alternatives('a{b=~"c.*"}'), ['a{b=~"c.*"}'])


class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="scoregate-monitoring-")))
        processes = cls.enterClassContext(Processes(folder))
        system = System(processes, folder, built_for_tests(), services=["open-model"])
        system.start()
        calls = prepared(system)
        with_file = start_gate_with_file(system)
        containers = [
            ("gate-1", "gate", system.front.gate),
            ("gate-1", "envoy", system.front.envoy),
            ("workspace-0", "workspace", system.workspace),
        ]
        kubelet = cls.enterClassContext(Kubelet(containers))
        targets = {
            "gate-1": system.front.admin,
            "gate-2": with_file,
            "workspace-0": f"http://{system.listen['admin']}",
            "kubelet": kubelet.url,
        }
        callers = threading.Thread(target=call, args=(system, calls, ended := threading.Event()))
        cls.addClassCleanup(callers.join)
        cls.addClassCleanup(ended.set)
        callers.start()
        cls.prometheus = Prometheus(processes, folder, targets)
        cls.prometheus.wait_for_scrapes(2)
        # Seen by scrapes before and after: of few changes, rates know nothing else.
        system.cli("key", "regenerate", "open-model", "secondary")
        cls.prometheus.wait_for_scrapes(6)
        cls.rules = cls.prometheus.rules()
        cls.expressions = {rule["name"]: rule["query"] for rule in cls.rules} | dict(queries())

    def test_every_query_of_the_dashboard_has_data(self) -> None:
        for panel, query in queries():
            with self.subTest(panel):
                self.assertTrue(self.prometheus.has_data(query), f"no data: {query}")

    def test_every_recording_has_data(self) -> None:
        recordings = [rule for rule in self.rules if rule["type"] == "recording"]
        self.assertGreater(len(recordings), 5)
        for rule in recordings:
            with self.subTest(rule["name"]):
                self.assertTrue(self.prometheus.has_data(rule["name"]), f"no data: {rule['query']}")

    def test_no_alert_is_of_a_healthy_system(self) -> None:
        alerts = self.alerts()
        self.assertGreater(len(alerts), 25)
        true = lambda: {rule["name"] for rule in alerts if self.prometheus.query(rule["query"])}  # noqa: E731
        patiently(lambda: true() == set(TRUE_HERE))
        self.assertEqual(true(), set(TRUE_HERE))
        firing = {rule["name"] for rule in self.prometheus.rules() if rule.get("state") == "firing"}
        self.assertEqual(firing, set())

    def test_every_rule_is_evaluated(self) -> None:
        for rule in self.prometheus.rules():
            self.assertEqual((rule["health"], rule.get("lastError")), ("ok", None), rule["name"])

    def test_every_selector_has_series(self) -> None:
        """Metrics, labels and their values are there: all of them are from the start of a process, also of alerts that
        do not fire."""
        for name, expression in self.expressions.items():
            for selector in itertools.chain.from_iterable(map(alternatives, selectors(expression))):
                with self.subTest(name, selector=selector):
                    self.assertTrue(patiently(lambda: self.prometheus.query(selector)), "no such series")  # noqa: B023

    def test_every_metric_is_documented(self) -> None:
        documented = set(re.findall(r"^\| `(scoregate_\w+)` \|", METRICS.read_text(), re.MULTILINE))
        recorded = {rule["name"] for rule in self.rules if rule["type"] == "recording"}
        for name, expression in self.expressions.items():
            for metric in names(expression):
                bare = re.sub("_(bucket|sum|count)$", "", metric)
                known = {metric, bare} & (documented | recorded | FOREIGN)
                self.assertTrue(known, f"{name}: `{metric}` is neither in {METRICS.name} nor a recording")

    def test_every_alert_says_what_to_do(self) -> None:
        headings = re.findall("^##+ (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
        anchors = {f"docs/operations.md#{anchor(heading)}" for heading in headings}
        for rule in self.alerts():
            with self.subTest(rule["name"]):
                self.assertIn(rule["labels"].get("severity"), {"critical", "warning"})
                self.assertEqual(set(rule["annotations"]), {"summary", "description", "runbook_url"})
                self.assertIn(rule["annotations"]["runbook_url"], anchors)

    def test_every_alert_has_a_unit_test(self) -> None:
        """One in which it fires, with the labels that its texts use, and one in which it does not."""
        tests = "".join((MONITORING / name).read_text() for name in ("tests.yaml", "tests-of-days.yaml"))
        for rule in self.alerts():
            with self.subTest(rule["name"]):
                alert = f'ALERTS{{alertname="{rule["name"]}"'
                fires = re.findall(rf"labels: '{re.escape(alert)}, alertstate=\"firing\", (.+)\}}'", tests)
                self.assertTrue(fires, "none in which it fires")
                self.assertRegex(tests, rf"{re.escape(alert)}.*exp_samples: \[\]", "none in which it does not")
                used = set(re.findall(r"\$labels\.(\w+)", "".join(rule["annotations"].values())))
                for labels in fires:
                    self.assertLessEqual(used, set(re.findall(r"(\w+)=", labels)))

    def alerts(self) -> list[dict[str, Any]]:
        return [rule for rule in self.rules if rule["type"] == "alerting"]


class Dashboard(unittest.TestCase):
    def test_panels_do_not_overlap(self) -> None:
        panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
        ids = [panel["id"] for panel in panels]
        self.assertEqual(len(set(ids)), len(ids))
        cells = [cell for panel in panels for cell in covered(**panel["gridPos"])]
        self.assertEqual(len(set(cells)), len(cells))
        self.assertLess(max(x for x, _ in cells), 24)


class Prometheus:
    """A real one, that scrapes and evaluates each second."""

    def __init__(self, processes: Processes, folder: Path, targets: dict[str, str]) -> None:
        """`targets`: base URLs, by pod."""
        self.processes, self.targets, config = processes, targets, folder / "prometheus.yml"
        self.url = f"http://127.0.0.1:{free_port()}"
        jobs = [
            {
                "job_name": pod,
                # The kubelet's series say themselves which pod they are about.
                "honor_labels": True,
                "static_configs": [
                    {"targets": [url.removeprefix("http://")], "labels": {"namespace": "scoregate", "pod": pod}}
                ],
            }
            for pod, url in targets.items()
        ]
        # JSON is YAML.
        every_second = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        content = {"global": every_second, "rule_files": [str(MONITORING / "rules.yaml")], "scrape_configs": jobs}
        config.write_text(json.dumps(content))
        self.process = processes.start(
            "prometheus",
            *(program("prometheus", "prometheus"), f"--config.file={config}", "--log.level=warn"),
            *(f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={self.url.removeprefix('http://')}"),
        )
        processes.wait("Prometheus", lambda: answers(f"{self.url}/-/ready"), self.process)

    def wait_for_scrapes(self, number: int) -> None:
        """Until each target has been scraped this many times from now on."""
        wanted = self.scrapes() + number
        self.processes.wait("scrapes", lambda: self.scrapes() >= wanted, self.process)

    def scrapes(self) -> float:
        """Of the target with the fewest."""
        counts = self.query("count_over_time(up[5m])")
        return min(counts) if len(counts) == len(self.targets) else 0

    def query(self, expression: str) -> list[float]:
        """The values of an expression now."""
        result = self.get("query", query=expression)
        samples = [result["result"]] if result["resultType"] == "scalar" else [each["value"] for each in result["result"]]
        return [float(value) for _, value in samples]

    def has_data(self, expression: str) -> bool:
        return bool(patiently(lambda: [value for value in self.query(expression) if not math.isnan(value)]))

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def get(self, what: str, **parameters: str) -> Any:
        answer = request("GET", f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}").json()
        if answer["status"] != "success":
            raise AssertionError(f"{parameters}: {answer['error']}")
        return answer["data"]


class Kubelet:
    """What cAdvisor would say of the processes, if they were containers: their CPU and memory, and that no limit
    throttles them."""

    def __init__(self, containers: list[tuple[str, str, Process]]) -> None:
        """`containers`: pod, name, and the process in it."""
        kubelet = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write("".join(kubelet.series()).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.containers = containers
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Kubelet:
        threading.Thread(target=self.server.serve_forever).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def series(self) -> Iterator[str]:
        for pod, container, process in self.containers:
            labels = f'{{namespace="scoregate",pod="{pod}",container="{container}"}}'
            fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
            user, system, resident = (int(fields[place]) for place in (11, 12, 21))
            yield f"container_cpu_usage_seconds_total{labels} {(user + system) / os.sysconf('SC_CLK_TCK')}\n"
            yield f"container_cpu_cfs_periods_total{labels} {time.monotonic() // 0.1}\n"
            yield f"container_cpu_cfs_throttled_periods_total{labels} 0\n"
            yield f"container_memory_working_set_bytes{labels} {resident * os.sysconf('SC_PAGE_SIZE')}\n"


def patiently(look: Callable[[], Any]) -> Any:
    """What is true soon: on a busy machine a scrape takes longer than the second that it has, and is missed."""
    with suppress(TimeoutError):
        return wait_until("it", look, 5)


def promtool(*arguments: str) -> None:
    command = [str(program("prometheus", "promtool")), *arguments]
    done = subprocess.run(command, cwd=MONITORING, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise AssertionError(done.stdout)


def prepared(system: System) -> list[tuple[str, str | None]]:
    """Makes services, regenerates a key, and returns the calls to make, as service and credential."""
    system.cli("service", "create", "forecast")
    system.cli("service", "create", "ranking", "--auth", "token")
    system.cli("service", "create", "open-model", "--auth", "disabled")
    old = system.cli("key", "show", "forecast")["primaryKey"]
    system.cli("key", "regenerate", "forecast", "primary")
    keys = system.cli("key", "show", "forecast")
    token = system.cli("token", "get", "ranking")["accessToken"]
    head, body, signature = token.split(".")
    forged = f"{head}.{body}.{signature[::-1]}"
    # Once: more than twenty of them are an alert.
    assert system.score("ranking", forged).status == 401
    calls = [
        ("forecast", keys["primaryKey"]),
        ("forecast", keys["secondaryKey"]),
        ("ranking", token),
        ("open-model", None),
        ("forecast", old),
        ("forecast", None),
        ("ranking", keys["primaryKey"]),
    ]
    answers_expected = [200, 200, 200, 200, 401, 401, 401]
    for (service, credential), status in zip(calls, answers_expected, strict=True):
        answer = system.score(service, credential)
        assert answer.status == status, (service, answer)
    # What was open asks for a key from now on, and lets those without one through.
    system.cli("service", "update", "open-model", "--auth", "key", "--shadow-for", "1h")
    return calls


def call(system: System, calls: list[tuple[str, str | None]], ended: threading.Event) -> None:
    """Five calls a second until the end: too few for an alert about slow checks, which a build without optimisation on a
    busy machine may deserve."""
    for service, credential in itertools.cycle(calls):
        if ended.wait(0.2):
            return
        system.score(service, credential)


def start_gate_with_file(system: System) -> str:
    """Starts a gate without a workspace, and returns where its metrics are."""
    policy, ready = system.folder / "policy.yaml", system.folder / "gate-2.json"
    policy.write_text("version: scoregate/v1\nservices: []\n")
    gate = system.processes.start(
        "gate-2",
        *(system.scoregate, "gate", "--name", "gate-2", "--policy", policy, "--addresses-file", ready),
        *("--ext-authz-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"),
    )
    return system.processes.wait("the gate with a file", lambda: read_json(ready), gate)["admin"]


@functools.cache
def queries() -> list[tuple[str, str]]:
    """Those of the dashboard, with values in place of variables, by panel."""
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    found = []
    for panel in panels:
        for target in panel.get("targets", []):
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            found.append((f"{panel['title']} {target['refId']}", query))
    return found


def names(expression: str) -> set[str]:
    """The metrics of an expression."""
    return {selector.partition("{")[0] for selector in selectors(expression)}


def selectors(expression: str) -> set[str]:
    """The metrics of an expression, each with its matchers."""
    lists = r"\b(?:by|without|on|ignoring|group_left|group_right) ?\([^)]*\)"
    bare = re.sub(rf"{lists}|\[[^\]]*\]", " ", expression)
    return set(re.findall(r"\b[a-z_][\w:]*\b(?!\s*\()(?:\{[^}]*\})?", bare)) - WORDS


def alternatives(selector: str) -> list[str]:
    """A selector for each value of a matcher such as `=~"a|b"`, of which one would be enough for series to be found."""
    found = re.search(r'=~"(\w+(?:\|\w+)+)"', selector)
    if not found:
        return [selector]
    ways = [f'{selector[: found.start()]}="{value}"{selector[found.end() :]}' for value in found[1].split("|")]
    return list(itertools.chain.from_iterable(map(alternatives, ways)))


def anchor(heading: str) -> str:
    """The one that Markdown's renderers make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def covered(x: int, y: int, w: int, h: int) -> Iterator[tuple[int, int]]:
    return itertools.product(range(x, x + w), range(y, y + h))


if __name__ == "__main__":
    unittest.main()
