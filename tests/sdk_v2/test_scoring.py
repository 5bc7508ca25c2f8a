"""`invoke` through a real Envoy to a real model, in every mode."""

from __future__ import annotations

from azure.ai.ml.exceptions import ValidationException
from azure.core.exceptions import ClientAuthenticationError
from rig import SdkTest
from sdk import KEY, OPEN, token_of


class Scoring(SdkTest):
    """One theme: the SDK has one set of headers for all calls of a process, and would mix up those of two threads."""

    scored = ("score-keys", "score-tokens", "score-open", "score-switched", "score-stale", "score-aci")

    def test_with_keys(self) -> None:
        self.create("score-keys")
        self.assert_scores("score-keys", KEY)
        self.endpoints.begin_regenerate_keys("score-keys", key_type="primary").result()
        self.assert_scores("score-keys", KEY)

    def test_with_tokens(self) -> None:
        self.create("score-tokens", auth_mode="aml_token")
        self.assert_scores("score-tokens", token_of("owner"))
        self.assert_scores("score-tokens", token_of("rita"), self.rig.reader)

    def test_without_authentication(self) -> None:
        self.create("score-open", auth_mode="disabled")
        self.assert_scores("score-open", OPEN)

    def test_of_aci(self) -> None:
        self.cli("service", "create", "score-aci", "--compute-type", "ACI", "--auth", "key")
        self.assert_scores("score-aci", KEY)

    def test_of_an_endpoint_that_is_switched_in_between(self) -> None:
        endpoint = self.create("score-switched")
        for mode, caller in (("aml_token", token_of("owner")), ("key", KEY), ("aml_token", token_of("owner"))):
            endpoint.auth_mode = mode
            endpoint = self.endpoints.begin_create_or_update(endpoint).result()
            self.assert_scores("score-switched", caller)

    def test_with_a_credential_that_is_not_accepted(self) -> None:
        self.create("score-stale")
        # The endpoint answers from another service's address, which does not accept its key.
        uri = self.endpoints.get("score-stale").scoring_uri.replace("score-stale", "score-keys")
        self.cli("service", "update", "score-stale", "--tag", f"scoregate.scoringUri={uri}")
        with self.refused(ClientAuthenticationError, "the credential was not accepted"):
            self.endpoints.invoke("score-stale", request_file=self.rig.rows)

    def test_of_a_deployment_there_are_none(self) -> None:
        with self.refused(ValidationException, "Deployment name blue not found for this endpoint"):
            self.create("score-blue")
            self.endpoints.invoke("score-blue", request_file=self.rig.rows, deployment_name="blue")
