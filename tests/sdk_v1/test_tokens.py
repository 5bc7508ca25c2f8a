"""Tokens: fetched with the SDK, and proven by others from the published keys alone."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import jwt
from azureml.core.webservice import AksWebservice, Webservice
from harness import answers, free_port, request
from parts import program
from rig import SdkTest

JWT_AUTHN = Path(__file__).resolve().parent / "jwt_authn.yaml"


class Tokens(SdkTest):
    def deploy_with_tokens(self, name: str) -> Webservice:
        return self.deploy(name, AksWebservice.deploy_configuration(token_auth_enabled=True))

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


def tampered(token: str) -> str:
    """The same claims under a signature of which one character is another."""
    head, dot, signature = token.rpartition(".")
    return head + dot + ("B" if signature[0] == "A" else "A") + signature[1:]
