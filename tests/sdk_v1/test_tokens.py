"""Tokens: fetched with the SDK, and proven by others from the published keys alone."""

from __future__ import annotations

import base64
import json
import time
from datetime import datetime
from pathlib import Path

import jwt
from azureml.core.webservice import AksWebservice, Webservice
from harness import answers, free_port, request
from parts import program
from rig import SdkTest, then
from sdk import token_of

JWT_AUTHN = Path(__file__).resolve().parent / "jwt_authn.yaml"


class Tokens(SdkTest):
    def test_times_and_reuse(self) -> None:
        service = self.deploy_with_tokens("tokens-reused")
        token = service.get_access_token()
        self.assertEqual(token.token_type, "Bearer")
        # The SDK shows both times in the local time zone, without saying so.
        now = datetime.now()
        self.assertAlmostEqual((token.refresh_after - now).total_seconds(), 3600, delta=60)
        self.assertAlmostEqual((token.expiry_on - now).total_seconds(), 12 * 3600, delta=60)
        self.assertEqual(service.get_token(), (token.access_token, token.refresh_after))

    def test_a_principals_own(self) -> None:
        service = self.deploy_with_tokens("tokens-own")
        of_reader = Webservice(self.rig.reader, "tokens-own").get_access_token().access_token
        self.assertNotEqual(of_reader, service.get_access_token().access_token)

    def test_of_a_service_with_keys_are_refused_with_the_reason(self) -> None:
        service = self.deploy("tokens-none")
        with self.refused("accessToken", "409", "`tokens-none` is in key mode: it has no tokens"):
            service.get_access_token()

    def test_of_aci_there_are_none(self) -> None:
        service = self.deploy_aci("tokens-aci")
        self.assertRaises(NotImplementedError, service.get_token)

    def test_pyjwt_proves_them(self) -> None:
        token = self.deploy_with_tokens("tokens-pyjwt").get_access_token().access_token
        configuration = request("GET", f"{self.rig.system.url}/.well-known/openid-configuration").json()
        key = jwt.PyJWKClient(configuration["jwks_uri"]).get_signing_key_from_jwt(token)
        audience = jwt.decode(token, options={"verify_signature": False})["aud"]
        required = {"require": ["iss", "aud", "sub", "iat", "nbf", "exp", "jti"]}
        claims = jwt.decode(
            token, key, algorithms=["ES256"], audience=audience, issuer=configuration["issuer"], options=required
        )
        self.assertEqual(claims["sub"], "owner")
        self.assertRegex(audience, r"^urn:scoregate:service:[0-9a-f-]{36}$")
        self.assertEqual(jwt.get_unverified_header(token)["typ"], "scoregate+jwt")
        with self.assertRaises(jwt.InvalidSignatureError):
            jwt.decode(tampered(token), key, algorithms=["ES256"], audience=audience)

    def test_envoys_own_filter_proves_them(self) -> None:
        token = self.deploy_with_tokens("tokens-envoy").get_access_token().access_token
        other = self.deploy_with_tokens("tokens-envoy-2").get_access_token().access_token
        verifier = self.start_verifier(jwt.decode(token, options={"verify_signature": False})["aud"])

        def status(credential: str) -> int:
            return request("GET", f"{verifier}/", [("authorization", f"Bearer {credential}")]).status

        self.assertEqual([status(token), status(tampered(token)), status(other)], [200, 401, 403])
        self.assertEqual(request("GET", f"{verifier}/").status, 401)

    def start_verifier(self, audience: str) -> str:
        """An Envoy without scoregate, which knows where the keys are, and issuer and audience; returns its URL."""
        system, port = self.rig.system, free_port()
        values = {
            "@listen@": str(port),
            "@workspace@": system.listen["workspace"].rpartition(":")[2],
            "@issuer@": self.rig.about["issuer"],
            "@audience@": audience,
        }
        text = JWT_AUTHN.read_text()
        for mark, value in values.items():
            text = text.replace(mark, value)
        config = system.folder / "jwt_authn.yaml"
        config.write_text(text)
        command = (program("envoy", "envoy"), "-c", config, "--use-dynamic-base-id", "--log-level", "warning")
        envoy = system.processes.start("jwt-authn", *command, "--concurrency", "1")
        url = f"http://127.0.0.1:{port}"
        system.processes.wait("the verifier", lambda: answers(f"{url}/ready"), envoy)
        return url


class Forged(SdkTest):
    """Tokens that were fetched with the SDK, and then presented otherwise than they were meant."""

    scored = ("forged-type", "forged-session", "forged-one", "forged-other", "forged-again")

    def t092_a_fetched_token_under_another_type_is_refused(self) -> None:
        token = self.deploy_with_tokens("forged-type").get_access_token().access_token
        types = ["at+jwt", "JWT", "refresh", "scoregate+JWT", "", None]
        forged = [with_header(token, typ=name) for name in types]
        self.assertEqual(self.statuses("forged-type", token, *forged), [200] + [401] * len(types))
        # For its type, and not only because the signature is that of another header.
        self.assertEqual(self.reasons("forged-type"), ["ok"] + ["wrong_type"] * len(types))
        self.assertEqual(self.statuses("forged-type", with_header(token, typ="scoregate+jwt", more="x")), [401])
        self.assertEqual(self.reasons("forged-type")[-1], "bad_signature")

    def t092_a_session_token_is_refused_by_the_gate(self) -> None:
        """By the same key as the tokens of services, and for the same principal, but for the workspace."""
        token = self.deploy_with_tokens("forged-session").get_access_token().access_token
        credential = self.rig.system.owner_credential().read_text().strip()
        url = f"{self.rig.system.url}/msi/token"
        session = request("GET", url, [("secret", credential)]).json()["access_token"]
        self.assertEqual(*[jwt.get_unverified_header(text)["kid"] for text in (session, token)])
        self.assertEqual(self.statuses("forged-session", token, session), [200, 401])
        self.assertEqual(self.reasons("forged-session"), ["ok", "wrong_type"])

    def t100_a_fetched_token_at_another_service_is_refused(self) -> None:
        one, other = (self.deploy_with_tokens(name).get_access_token() for name in ("forged-one", "forged-other"))
        self.assertEqual(self.statuses("forged-one", one.access_token, other.access_token), [200, 401])
        self.assertEqual(self.statuses("forged-other", other.access_token, one.access_token), [200, 401])
        self.assertEqual(self.reasons("forged-other"), ["ok", "wrong_service"])
        # Callers are not told why.
        answers = [self.rig.system.score("forged-one", bad) for bad in (other.access_token, tampered(one.access_token))]
        self.assertEqual(*[(answer.status, answer.body, answer.all("www-authenticate")) for answer in answers])

    def t100b_a_fetched_token_of_a_service_made_again_is_refused(self) -> None:
        service = self.deploy_with_tokens("forged-again")
        token = service.get_access_token().access_token
        self.assertEqual(self.statuses("forged-again", token), [200])
        service.delete()
        self.assertEqual(self.statuses("forged-again", token), [401])
        new = self.deploy_with_tokens("forged-again").get_access_token().access_token
        self.assertEqual(self.statuses("forged-again", token, new), [401, 200])
        self.assertEqual(self.reasons("forged-again"), ["ok", "unknown_service", "wrong_service", "ok"])
        # Whoever asks for a token before each call goes on, even with an object that was read before.
        self.assert_scores(service, token_of("owner"))


class Expiring(SdkTest):
    """With tokens of 3 s, and a gate that is not patient with clocks."""

    settings = (
        ("SCOREGATE__GATE__CLOCK_SKEW", "0s"),
        ("SCOREGATE__WORKSPACE__TOKEN_LIFETIME", "3s"),
        ("SCOREGATE__WORKSPACE__TOKEN_REFRESH_AFTER", "1s"),
    )
    scored = ("expiring", "expiring-under-way")

    def t102_a_fetched_token_that_was_accepted_expires(self) -> None:
        token = self.deploy_with_tokens("expiring").get_access_token()
        expiry = token.expiry_on.timestamp()
        answers = []
        while not answers or answers[-1][1] < expiry + 0.5:
            asked, [status] = time.time(), self.statuses("expiring", token.access_token)
            answers.append((asked, time.time(), status))
            time.sleep(0.02)
        self.assertEqual({status for _, answered, status in answers if answered < expiry}, {200})
        self.assertEqual({status for asked, _, status in answers if asked >= expiry}, {401})
        self.assertEqual(self.reasons("expiring")[-1], "expired")

    def t102_a_client_outlives_the_expiry_of_its_tokens(self) -> None:
        service = self.deploy_with_tokens("expiring-under-way")
        until = time.time() + 5
        while time.time() < until:
            self.assert_scores(service, token_of("owner"))
        # It does not even use one that got old in its hands: the time to refresh it is over by then.
        fetched = then(service, "get_token", lambda: time.sleep(3.5))
        self.assert_scores(service, token_of("owner"))
        self.assertEqual(len({token for token, _ in fetched}), 2)
        self.assertEqual(set(self.reasons("expiring-under-way")), {"ok"})


def with_header(token: str, **members: str | None) -> str:
    """The token with other members in its header, under the signature that it has. `None` takes one away."""
    _, payload, signature = token.split(".")
    header = jwt.get_unverified_header(token) | members
    text = json.dumps({name: value for name, value in header.items() if value is not None})
    return f"{base64.urlsafe_b64encode(text.encode()).rstrip(b'=').decode()}.{payload}.{signature}"


def tampered(token: str) -> str:
    """The same claims under a signature of which one character is another."""
    head, dot, signature = token.rpartition(".")
    return head + dot + ("B" if signature[0] == "A" else "A") + signature[1:]
