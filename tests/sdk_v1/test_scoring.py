"""`run` through a real Envoy to a real model, in every mode, and with credentials that get old meanwhile."""

from __future__ import annotations

from unittest import mock

from azureml.core.webservice import AksWebservice, Webservice
from rig import SdkTest, then
from sdk import KEY, OPEN, token_of
from system import ROWS


class Scoring(SdkTest):
    scored = ("score-keys", "score-tokens", "score-open", "score-aci", "score-aci-keys")

    def test_with_keys(self) -> None:
        self.assert_scores(self.deploy("score-keys"), KEY)

    def test_with_tokens(self) -> None:
        service = self.deploy("score-tokens", AksWebservice.deploy_configuration(token_auth_enabled=True))
        self.assert_scores(service, token_of("owner"))
        self.assert_scores(Webservice(self.rig.reader, "score-tokens"), token_of("rita"))

    def test_without_authentication(self) -> None:
        service = self.deploy("score-open", AksWebservice.deploy_configuration(auth_enabled=False))
        self.assert_scores(service, OPEN)

    def test_of_aci(self) -> None:
        self.assert_scores(self.deploy_aci("score-aci"), OPEN)
        self.assert_scores(self.deploy_aci("score-aci-keys", auth_enabled=True), KEY)


class Healing(SdkTest):
    """The SDK fetches its credential before each call, so one gets old only in between: here it does."""

    scored = ("heal-keys", "heal-tokens", "heal-switched")

    def test_a_key_regenerated_in_between(self) -> None:
        service = self.deploy("heal-keys")
        fetched = then(service, "get_keys", lambda: self.cli("key", "regenerate", "heal-keys", "primary"))
        self.assert_scores(service, KEY)
        self.assertNotEqual(fetched[0][0], fetched[-1][0])

    def test_a_token_revoked_in_between(self) -> None:
        service = self.deploy("heal-tokens", AksWebservice.deploy_configuration(token_auth_enabled=True))

        def revoke() -> None:
            # Tokens end when a service leaves token mode.
            for mode in ("key", "token"):
                self.cli("service", "update", "heal-tokens", "--auth", mode)

        fetched = then(service, "get_token", revoke)
        self.assert_scores(service, token_of("owner"))
        self.assertNotEqual(fetched[0][0], fetched[-1][0])

    def test_a_service_switched_in_both_directions(self) -> None:
        service = self.deploy("heal-switched")
        for _ in range(3):
            service.update(auth_enabled=False, token_auth_enabled=True)
            self.assert_scores(service, token_of("owner"))
            service.update(auth_enabled=True, token_auth_enabled=False)
            self.assert_scores(service, KEY)
        service.update(auth_enabled=False)
        self.assert_scores(service, OPEN)

    def cli(self, *arguments: str) -> None:
        self.rig.system.cli(*arguments)


class SwitchedByOthers(SdkTest):
    """An object keeps the mode that the service had when it was read. That of the program that switches it does not get
    old: `update` reads the service again (`Healing`). Here another program has one."""

    scored = ("switched-to-tokens", "switched-to-keys", "switched-open", "switched-shut", "switched-back")

    def test_from_keys_to_tokens(self) -> None:
        mine, others = self.two_objects("switched-to-tokens", auth_enabled=True)
        mine.update(auth_enabled=False, token_auth_enabled=True)
        # It fetches the keys again, and those are not in force.
        with mock.patch.object(others, "get_keys", wraps=others.get_keys) as fetch, self.refused("Response Code: 401"):
            others.run(ROWS)
        self.assertEqual(fetch.call_count, 3)
        self.assertEqual(self.reasons("switched-to-tokens"), ["wrong_credential_kind"] * 2)
        others.update_deployment_state()
        self.assert_scores(others, token_of("owner"))

    def test_from_tokens_to_keys(self) -> None:
        mine, others = self.two_objects("switched-to-keys", auth_enabled=False, token_auth_enabled=True)
        mine.update(auth_enabled=True, token_auth_enabled=False)
        with self.refused("accessToken", "409", "`switched-to-keys` is in key mode: it has no tokens"):
            others.run(ROWS)
        self.assertEqual(self.reasons("switched-to-keys"), [])
        others.update_deployment_state()
        self.assert_scores(others, KEY)

    def test_from_keys_to_open(self) -> None:
        mine, others = self.two_objects("switched-open", auth_enabled=True)
        mine.update(auth_enabled=False)
        self.assert_scores(others, OPEN)

    def test_from_open_to_keys(self) -> None:
        mine, others = self.two_objects("switched-shut", auth_enabled=False)
        mine.update(auth_enabled=True)
        with self.refused("Response Code: 401"):
            others.run(ROWS)
        others.update_deployment_state()
        self.assert_scores(others, KEY)

    def test_from_keys_to_tokens_and_back(self) -> None:
        mine, others = self.two_objects("switched-back", auth_enabled=True)
        mine.update(auth_enabled=False, token_auth_enabled=True)
        mine.update(auth_enabled=True, token_auth_enabled=False)
        self.assert_scores(others, KEY)

    def two_objects(self, name: str, **modes: bool) -> tuple[Webservice, Webservice]:
        """Of one service: that of the program that deployed it, and that of another program, which has read it since."""
        return self.deploy(name, AksWebservice.deploy_configuration(**modes)), Webservice(self.ws, name)
