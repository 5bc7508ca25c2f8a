"""Endpoints made and changed with SDK v2, and what is refused."""

from __future__ import annotations

from azure.ai.ml.entities import KubernetesOnlineEndpoint, ManagedOnlineEndpoint
from azure.core.exceptions import HttpResponseError
from rig import SdkTest


class Create(SdkTest):
    def test_with_each_mode(self) -> None:
        modes = {"key": ("key", True, False), "aml_token": ("aml_token", False, True), "disabled": ("", False, False)}
        for index, (given, (shown, *flags)) in enumerate(modes.items()):
            endpoint = self.create(f"create-{index}", auth_mode=given)
            self.assertIsInstance(endpoint, KubernetesOnlineEndpoint)
            self.assertEqual((endpoint.auth_mode, endpoint.provisioning_state), (shown, "Succeeded"))
            service = self.cli("service", "show", endpoint.name)
            self.assertEqual([service["authEnabled"], service["aadAuthEnabled"]], flags)

    def test_has_keys_unless_told_otherwise(self) -> None:
        self.assertEqual(self.create("create-unsaid").auth_mode, "key")

    def test_everything_that_is_said_is_kept(self) -> None:
        said = {"tags": {"team": "blue"}, "properties": {"origin": "test"}, "description": "said"}
        self.create("create-said", traffic={"blue": 90, "green": 10}, **said)
        endpoint = self.endpoints.get("create-said")
        self.assertEqual({name: getattr(endpoint, name) for name in said}, said)
        self.assertEqual(endpoint.traffic, {"blue": 90, "green": 10})
        self.assertTrue(endpoint.compute.endswith("/computes/aks"))
        self.assertEqual(endpoint.identity.type, "system_assigned")

    def test_aad_token_is_refused(self) -> None:
        with self.refused(HttpResponseError, "cannot be `AADToken`", "Use `aml_token`"):
            self.create("create-aad", auth_mode="aad_token")
        self.assertNotIn("create-aad", [endpoint.name for endpoint in self.endpoints.list()])

    def test_a_managed_endpoint_is_refused(self) -> None:
        with self.refused(HttpResponseError, "no managed online endpoints", "KubernetesOnlineEndpoint"):
            self.endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="create-managed")).result()

    def test_letter_case_of_a_name_does_not_matter(self) -> None:
        # The SDK makes an endpoint under a name in lower case, and asks for one as it is told.
        self.assertEqual(self.create("Create-Case").name, "create-case")
        self.assertEqual(self.endpoints.get("Create-Case").name, "create-case")
        self.assertEqual(vars(self.endpoints.get_keys("CREATE-CASE")), vars(self.endpoints.get_keys("create-case")))

    def test_a_reader_may_not(self) -> None:
        endpoint = KubernetesOnlineEndpoint(name="create-rita", compute="aks")
        with self.refused(HttpResponseError, "this needs the role `contributor`; `rita` is `reader`"):
            self.rig.reader.online_endpoints.begin_create_or_update(endpoint).result()


class Update(SdkTest):
    scored = ("update-modes",)

    def test_modes_in_every_direction_keep_the_keys(self) -> None:
        endpoint = self.create("update-modes")
        keys = vars(self.endpoints.get_keys("update-modes"))
        key, token = keys["primary_key"], None
        for mode in ("aml_token", "key", "aml_token", "disabled", "key"):
            endpoint.auth_mode = mode
            endpoint = self.endpoints.begin_create_or_update(endpoint).result()
            if mode == "aml_token":
                token = self.endpoints.get_keys("update-modes").access_token
            # At once: it returns when the gate enforces it.
            expected = {"key": [200, 401, 401], "aml_token": [401, 200, 401], "disabled": [200, 200, 200]}
            self.assertEqual(self.statuses("update-modes", key, token, None), expected[mode], mode)
        self.assertEqual(vars(self.endpoints.get_keys("update-modes")), keys)

    def test_of_what_was_read_changes_what_was_said(self) -> None:
        self.cli("service", "create", "update-read", "--auth", "disabled", "--tag", "a=1")
        endpoint = self.endpoints.get("update-read")
        endpoint.description, endpoint.tags = "new", {"b": "2"}
        self.endpoints.begin_create_or_update(endpoint).result()
        service = self.cli("service", "show", "update-read")
        self.assertEqual((service["description"], service["kvTags"]), ("new", {"b": "2"}))
        self.assertEqual((service["authEnabled"], service["aadAuthEnabled"]), (False, False))

    def test_of_aci_has_keys_or_nothing(self) -> None:
        self.cli("service", "create", "update-aci", "--compute-type", "ACI")
        endpoint = self.endpoints.get("update-aci")
        endpoint.auth_mode = "key"
        self.assertEqual(self.endpoints.begin_create_or_update(endpoint).result().auth_mode, "key")
        endpoint.auth_mode = "aml_token"
        with self.refused(HttpResponseError, "token authentication is for AKS only"):
            self.endpoints.begin_create_or_update(endpoint)

    def test_to_aad_token_is_refused(self) -> None:
        endpoint = self.create("update-aad")
        endpoint.auth_mode = "aad_token"
        with self.refused(HttpResponseError, "cannot be `AADToken`"):
            self.endpoints.begin_create_or_update(endpoint)
        self.assertEqual(self.endpoints.get("update-aad").auth_mode, "key")
