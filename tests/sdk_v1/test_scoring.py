"""`run` through a real Envoy to a real model, in every mode, and with credentials that get old meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from azureml.core.webservice import AksWebservice, Webservice
from rig import KEY, OPEN, SdkTest, token_of


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
        fetched = self.then(service, "get_keys", lambda: self.cli("key", "regenerate", "heal-keys", "primary"))
        self.assert_scores(service, KEY)
        self.assertNotEqual(fetched[0][0], fetched[-1][0])

    def test_a_token_revoked_in_between(self) -> None:
        service = self.deploy("heal-tokens", AksWebservice.deploy_configuration(token_auth_enabled=True))

        def revoke() -> None:
            # Tokens end when a service leaves token mode.
            for mode in ("key", "token"):
                self.cli("service", "update", "heal-tokens", "--auth", mode)

        fetched = self.then(service, "get_token", revoke)
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

    def then(self, service: Webservice, method: str, action: Callable[[], None]) -> list[Any]:
        """Does something once, between the first fetch of a credential and its use; returns all that is fetched."""
        fetch, fetched = getattr(service, method), []

        def fetch_and_act() -> Any:
            fetched.append(fetch())
            if len(fetched) == 1:
                action()
            return fetched[-1]

        setattr(service, method, fetch_and_act)
        return fetched
