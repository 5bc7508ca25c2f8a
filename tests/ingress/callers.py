"""What callers do at an ingress, right and wrong, and what has to come of it, whichever control plane made the Envoy that
they meet. A test class is both a `Callers` and a `unittest.TestCase`, and sets `installation` and `entrance`.

No path is exempt in an overlay: whatever reaches a model, a gate has been asked about.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import unittest
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from harness import Answer, exchange, wait_until
from installation import Installation, Model, Pod, Seen

SUFFIX = ".models.example.com"
FORECAST, RANKING = "forecast", "ranking"
# Beside the services of the example: those whose credentials are good, but not there.
OTHER_KEYED, OTHER_TOKENED = "other-keyed", "other-tokened"
# Of a token, and then of the clocks that a gate tolerates, in seconds.
SHORT, SKEW = 2, 5

FORGED = (
    ("x-scoregate-subject", "admin"),
    ("X-Scoregate-Subject", "root"),
    ("x-scoregate-auth-mode", "token"),
    ("X-SCOREGATE-KEY-SLOT", "forged"),
    ("x-scoregate-service", "another"),
)
# Envoy may refuse such names; servers that take them for the names above (CGI, WSGI) must not see them.
UNDERSCORES = ("x_scoregate_subject", "X-Scoregate_Subject", "x_scoregate-key-slot")

# Spellings of `/api/v1/service/forecast/score`, and of what is near it. Those of threat 30, and of 131 with a path that
# somebody might exempt.
SCORE = "/api/v1/service/forecast/score"
TRICKS = (
    *(
        f"/api/v1/service/forecast{rest}"
        for rest in (
            "/score",
            "/a/../score",
            "/a/%2e%2e/score",
            "/%2E%2E%2f",
            "/score%2F..",
            "/score\\..\\x",
            "/score%5c..",
            "/score;x=1",
            "/score/.",
            "//score",
            "/./score",
            "/a/..;x=1/score",
            "/a/.%2e/score",
            "/score%00",
            "/score%zz",
            "/score%c0%af",
            "/score#x",
            "/score?/healthz",
            "/%73core",
            "",
            "/",
            "/../ranking/score",
            "/a/../../ranking/score",
            "/%2e%2e/ranking/score",
            "/..%2franking/score",
            "/..%5cranking/score",
            "\\..\\ranking/score",
            "/..;/ranking/score",
            "/../../../..",
            "/../../../../healthz",
        )
    ),
    *(
        spelling.replace("EXEMPT", "healthz").replace("/SCORE", SCORE)
        for spelling in (
            "/EXEMPT",
            "/EXEMPT/",
            "/EXEMPT/../SCORE",
            "/EXEMPT/%2e%2e/SCORE",
            "/EXEMPT/%2E%2E%2fSCORE",
            "/EXEMPT%2f..%2fSCORE",
            "/EXEMPT%2F../SCORE",
            "/EXEMPT%5c..%5cSCORE",
            "/EXEMPT/..%5cSCORE",
            "/EXEMPT\\../SCORE",
            "/EXEMPT/..\\SCORE",
            "/EXEMPT/..;/SCORE",
            "/EXEMPT/..;x=1/SCORE",
            "/EXEMPT;/../SCORE",
            "/EXEMPT/./../SCORE",
            "/EXEMPT//../../SCORE",
            "//EXEMPT/../SCORE",
            "///EXEMPT/../SCORE",
            "/./EXEMPT/../SCORE",
            "/EXEMPT/.%2e/SCORE",
            "/EXEMPT/%2e./SCORE",
            "/SCORE?/EXEMPT",
            "/SCORE;/EXEMPT/",
            "/SCORE/..;/EXEMPT/",
            "/SCORE/../EXEMPT",
            "/%68ealthz/../SCORE",
            "/EXEMPT%00/../SCORE",
            "/EXEMPT%0a/../SCORE",
            "/EXEMPT%20/../SCORE",
            "/EXEMPT./SCORE",
        )
    ),
    "//api/v1/service/forecast/score",
    "/api//v1/service/forecast/score",
    "/%61pi/v1/service/forecast/score",
    "/api/v1/service%2fforecast/score",
    "/api%2fv1%2fservice%2fforecast%2fscore",
    "/API/v1/service/forecast/score",
    "/api/v1/service/forecastx/score",
    "/api/v1/service/FORECAST/score",
    "/score",
    "/",
)


@dataclass(frozen=True)
class Entrance:
    """Where callers come in, by TLS if there is a CA to know it by."""

    address: str
    port: int
    ca: Path | None = None

    def send(
        self, host: str, target: str, headers: tuple[tuple[str, str], ...] = (), method: str = "POST"
    ) -> Answer:
        """A request on a connection of its own, all of it as given. In TLS it is always for the same server: no part of
        what decides may be what a caller says there."""
        return exchange(self.connect(), method, target, [("host", host), *headers], "{}", skip_host=True)

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.address, self.port)
        plain = socket.create_connection((self.address, self.port), timeout=30)
        connection.sock = plain
        if self.ca is not None:
            context = ssl.create_default_context(cafile=str(self.ca))
            connection.sock = context.wrap_socket(plain, server_hostname=f"{FORECAST}{SUFFIX}")
        return connection


@dataclass(frozen=True)
class Outcome:
    answer: Answer
    # What gates said to it: how often which reason.
    reasons: Counter[str]
    seen: list[Seen]

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def asked(self) -> int:
        return self.reasons.total()


@dataclass(frozen=True)
class Credentials:
    primary: str
    secondary: str
    of_other_keyed: str
    token: str
    of_other_tokened: str
    expired: str

    @classmethod
    def of(cls, installation: Installation) -> Credentials:
        """Makes the other services, and waits for the end of a token."""
        for name, *mode in ((OTHER_KEYED,), (OTHER_TOKENED, "--auth", "token")):
            installation.cli("service", "create", name, "--host", f"{name}{SUFFIX}", *mode)
        expired = installation.token(RANKING, "--expires-in", f"{SHORT}s")
        ends = time.monotonic() + SHORT + SKEW + 1
        found = cls(
            *installation.keys(FORECAST),
            of_other_keyed=installation.keys(OTHER_KEYED)[0],
            token=installation.token(RANKING),
            of_other_tokened=installation.token(OTHER_TOKENED),
            expired=expired,
        )
        time.sleep(max(0, ends - time.monotonic()))
        return found


def bearer(*credentials: str) -> tuple[tuple[str, str], ...]:
    """A header for each."""
    return tuple(("authorization", f"Bearer {credential}") for credential in credentials)


def tampered(token: str) -> str:
    """The token with other claims."""
    header, _, signature = token.split(".")
    return f"{header}.eyJzdWIiOiJhZG1pbiJ9.{signature}"


def read_by_a_model(path: str) -> str:
    """As lenient as servers get: decoded, backslashes as slashes, without parameters, dot segments resolved."""
    segments: list[str] = []
    for segment in unquote(path.partition("?")[0].partition("#")[0]).replace("\\", "/").split("/"):
        plain = segment.partition(";")[0]
        if plain == "..":
            segments[-1:] = []
        elif plain not in ("", "."):
            segments.append(plain)
    return "/" + "/".join(segments)


class Callers(unittest.TestCase):
    # Set by the class that has an ingress, in setUpClass.
    installation: Installation
    entrance: Entrance
    credentials: Credentials

    def send(
        self,
        service: str,
        *headers: tuple[str, str],
        target: str | None = None,
        host: str | None = None,
        method: str = "POST",
    ) -> Outcome:
        """A request for the service's score, unless another target is said, and what came of it."""
        before, seen = self.installation.reasons(), {name: len(each.seen) for name, each in self.models.items()}
        path = target if target is not None else f"/api/v1/service/{service}/score"
        answer = self.entrance.send(host or f"{service}{SUFFIX}", path, headers, method)
        reasons = self.installation.reasons()
        reasons.subtract(before)
        new = [each for name, model in self.models.items() for each in model.seen[seen[name] :]]
        return Outcome(answer, +reasons, new)

    @property
    def models(self) -> dict[str, Model]:
        return self.installation.models

    def allowed(self, outcome: Outcome, model: str) -> Seen:
        """It was asked about once, and reached this model once, without what it was proven by."""
        self.assertEqual((outcome.status, outcome.reasons), (200, Counter(ok=1)), outcome.answer)
        [seen] = outcome.seen
        self.assertEqual((seen.model, outcome.answer.json()["model"]), (model, model))
        self.assertEqual(seen.all("authorization"), [])
        text = str(seen.headers)
        for secret in (self.credentials.primary, self.credentials.secondary, self.credentials.token):
            self.assertNotIn(secret, text)
        return seen

    def refused(self, outcome: Outcome, reason: str) -> None:
        self.assertEqual((outcome.status, outcome.reasons), (401, Counter({reason: 1})), outcome.answer)
        self.assertEqual(outcome.seen, [])
        self.assertTrue(outcome.answer.all("www-authenticate"))

    def test_right_credentials_are_let_through(self) -> None:
        """And the model learns who called, whatever the caller says."""
        having = self.credentials
        of_key = {"x-scoregate-auth-mode": ["key"], "x-scoregate-service": [FORECAST]}
        of_token = {
            "x-scoregate-auth-mode": ["token"],
            "x-scoregate-service": [RANKING],
            "x-scoregate-subject": ["owner"],
        }
        for service, credential, identity in (
            (FORECAST, having.primary, of_key | {"x-scoregate-key-slot": ["primary"]}),
            (FORECAST, having.secondary, of_key | {"x-scoregate-key-slot": ["secondary"]}),
            (RANKING, having.token, of_token),
        ):
            for forged in ((), FORGED):
                with self.subTest(service, identity=identity, forged=bool(forged)):
                    seen = self.allowed(self.send(service, *bearer(credential), *forged), service)
                    self.assertEqual((seen.method, seen.target), ("POST", "/score"))
                    self.assertEqual(seen.identity(), identity)

    def test_names_with_underscores_do_not_pass_for_the_gates_own(self) -> None:
        for name in UNDERSCORES:
            with self.subTest(name):
                outcome = self.send(FORECAST, *bearer(self.credentials.primary), (name, "admin"))
                if outcome.status == 400:
                    self.assertEqual((outcome.asked, outcome.seen), (0, []))
                else:
                    identity = self.allowed(outcome, FORECAST).identity()
                    self.assertNotIn(name.lower(), identity)

    def test_wrong_credentials_are_refused(self) -> None:
        having = self.credentials
        for service, headers, reason in (
            (FORECAST, (), "missing_credential"),
            (FORECAST, bearer("not-a-key-of-this-service"), "unknown_key"),
            (FORECAST, bearer(having.primary[:-1]), "unknown_key"),
            (FORECAST, bearer(having.of_other_keyed), "unknown_key"),
            (FORECAST, bearer(having.token), "wrong_credential_kind"),
            (FORECAST, (("authorization", f"Basic {having.primary}"),), "unsupported_scheme"),
            (FORECAST, (("x-api-key", having.primary),), "missing_credential"),
            (RANKING, (), "missing_credential"),
            (RANKING, bearer("not.a.token"), "malformed_token"),
            (RANKING, bearer(tampered(having.token)), "bad_signature"),
            (RANKING, bearer(having.of_other_tokened), "wrong_service"),
            (RANKING, bearer(having.expired), "expired"),
            (RANKING, bearer(having.primary), "wrong_credential_kind"),
        ):
            with self.subTest(service, reason=reason):
                self.refused(self.send(service, *headers), reason)

    def test_repeated_credentials_are_refused(self) -> None:
        key, token = self.credentials.primary, self.credentials.token
        for service, headers in (
            (FORECAST, bearer(key, key)),
            (FORECAST, bearer(key, "another-one-entirely")),
            (FORECAST, bearer("another-one-entirely", key)),
            (FORECAST, bearer(key, token)),
            (FORECAST, (*bearer(key), ("Authorization", f"Bearer {key}"))),
            (FORECAST, bearer(f"{key}, Bearer {key}")),
            (FORECAST, bearer(f"{key},")),
            (RANKING, bearer(key, token)),
            (RANKING, bearer(token, token)),
        ):
            with self.subTest(service, headers=len(headers)):
                self.refused(self.send(service, *headers), "duplicate_credential")

    def test_hosts_are_apart(self) -> None:
        """The credential of one service is nothing at the host of another, and no spelling of a host leads elsewhere."""
        key = bearer(self.credentials.primary)
        for host in (f"{RANKING}{SUFFIX}", f"{OTHER_KEYED}{SUFFIX}"):
            for service in (FORECAST, RANKING):
                with self.subTest(host, service=service):
                    outcome = self.send(service, *key, host=host)
                    self.assertIn(outcome.status, (401, 404))
                    self.assertEqual(outcome.seen, [])
        for host in (f"{FORECAST}{SUFFIX}:443", f"{FORECAST}{SUFFIX}".upper(), f"{FORECAST}{SUFFIX}."):
            with self.subTest(host):
                self.asked_or_refused(self.send(FORECAST, host=host))
                outcome = self.send(FORECAST, *key, host=host)
                self.asked_or_refused(outcome)
                self.assertLessEqual({seen.model for seen in outcome.seen}, {FORECAST})

    def test_preflights_and_other_methods_are_asked_about(self) -> None:
        preflight = (("origin", "https://app.test"), ("access-control-request-method", "POST"))
        for method in ("OPTIONS", "GET", "HEAD", "PUT", "DELETE"):
            with self.subTest(method):
                outcome = self.send(FORECAST, *preflight, method=method)
                self.assertEqual((outcome.status, outcome.asked, outcome.seen), (401, 1, []))

    def test_each_spelling_of_a_path_is_asked_about_or_refused(self) -> None:
        """Threats 30 and 131."""
        asked = 0
        for target in TRICKS:
            with self.subTest(target):
                outcome = self.send(FORECAST, target=target)
                self.asked_or_refused(outcome)
                self.assertEqual(outcome.seen, [])
                asked += outcome.asked
        self.assertGreater(asked, len(TRICKS) / 2)

    def test_no_spelling_of_a_path_leads_to_something_else(self) -> None:
        """With a good credential. What passes is read in one way by gate and model, whatever server that is."""
        for target in TRICKS:
            for host in (FORECAST, RANKING):
                with self.subTest(target, host=host):
                    outcome = self.send(host, *bearer(self.credentials.primary), target=target)
                    self.asked_or_refused(outcome)
                    for seen in outcome.seen:
                        path = seen.target.partition("?")[0]
                        self.assertEqual((host, seen.model), (FORECAST, FORECAST))
                        self.assertIn(path, (read_by_a_model(path), f"{read_by_a_model(path)}/"))

    def asked_or_refused(self, outcome: Outcome) -> None:
        """Either a gate has been asked once, or Envoy has refused by itself."""
        self.assertLessEqual(outcome.asked, 1)
        if outcome.asked == 0 or outcome.reasons["ok"] == 0:
            self.assertIn(outcome.status, (400, 401, 404))
            self.assertEqual(outcome.seen, [])
        else:
            self.assertEqual(len(outcome.seen), 1 if outcome.status == 200 else 0)

    def test_gates_that_are_gone_are_503_and_come_back(self) -> None:
        for gate in self.installation.gates:
            self.addCleanup(self.start_again, gate)
            gate.stop()
        for headers in (bearer(self.credentials.primary), ()):
            outcome = self.send(FORECAST, *headers)
            self.assertEqual((outcome.status, outcome.seen), (503, []))
        for gate in self.installation.gates:
            self.start_again(gate)
        self.recovers()

    def test_gates_that_hang_are_503_in_time_and_come_back(self) -> None:
        for gate in self.installation.gates:
            self.addCleanup(gate.go_on)
            gate.hang()
        for headers in (bearer(self.credentials.primary), ()):
            began, seen = time.monotonic(), len(self.installation.seen())
            answer = self.entrance.send(f"{FORECAST}{SUFFIX}", SCORE, headers)
            took = time.monotonic() - began
            self.assertEqual((answer.status, len(self.installation.seen())), (503, seen))
            # The check's timeout is 250 ms, and it is what ended it.
            self.assertGreater(took, 0.2)
            self.assertLess(took, 1)
        for gate in self.installation.gates:
            gate.go_on()
        self.recovers()

    def start_again(self, gate: Pod) -> None:
        if gate.process is None:
            gate.start()

    def recovers(self) -> None:
        def scores() -> bool:
            return self.send(FORECAST, *bearer(self.credentials.primary)).status == 200

        wait_until("calls to be let through again", scores, 10)
        self.refused(self.send(FORECAST), "missing_credential")
