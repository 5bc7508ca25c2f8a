"""Endpoints found, shown and deleted with SDK v2, whichever SDK made them."""

from __future__ import annotations

from azure.ai.ml.entities import KubernetesOnlineEndpoint, ManagedOnlineEndpoint
from azure.core.exceptions import ResourceNotFoundError
from rig import SdkTest

# A page has 50.
MANY = 60


class Listing(SdkTest):
    def test_over_pages(self) -> None:
        names = {f"list-{index:03}" for index in range(MANY)}
        for name in names:
            self.create(name)
        listed = [endpoint.name for endpoint in self.endpoints.list()]
        self.assertLessEqual(names, set(listed))
        self.assertEqual(len(listed), len(set(listed)))

    def test_whatever_sdk_v1_has_made_can_be_shown(self) -> None:
        cases = {
            "list-aks": ("AKS", "key", KubernetesOnlineEndpoint, "key"),
            "list-aks-token": ("AKS", "token", KubernetesOnlineEndpoint, "aml_token"),
            "list-aks-open": ("AKS", "disabled", KubernetesOnlineEndpoint, ""),
            "list-aci": ("ACI", "key", ManagedOnlineEndpoint, "key"),
            "list-aci-open": ("ACI", "disabled", ManagedOnlineEndpoint, ""),
        }
        for name, (compute, mode, *_) in cases.items():
            self.cli("service", "create", name, "--compute-type", compute, "--auth", mode)
        listed = {endpoint.name: endpoint for endpoint in self.endpoints.list()}
        for name, (_, _, kind, auth_mode) in cases.items():
            for endpoint in (listed[name], self.endpoints.get(name)):
                self.assertIsInstance(endpoint, kind)
                self.assertEqual(endpoint.auth_mode, auth_mode)
                self.assertEqual(endpoint.provisioning_state, "Succeeded")
                self.assertTrue(endpoint.scoring_uri.endswith(f"/api/v1/service/{name}/score"))
                # As `az ml online-endpoint list` and notebooks print one.
                self.assertEqual(endpoint._to_dict()["name"], name)

    def test_deleted(self) -> None:
        self.create("deleted")
        self.endpoints.begin_delete("deleted").result()
        with self.refused(ResourceNotFoundError, "no service is named `deleted`"):
            self.endpoints.get("deleted")
        self.endpoints.begin_delete("deleted").result()

    def test_deleted_and_made_again_has_other_keys(self) -> None:
        self.create("again")
        keys = vars(self.endpoints.get_keys("again"))
        self.endpoints.begin_delete("again").result()
        self.create("again")
        self.assertFalse(set(keys.values()) & set(vars(self.endpoints.get_keys("again")).values()))
