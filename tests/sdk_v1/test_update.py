"""Services changed with the SDK, and what its users cannot do by mistake."""

from __future__ import annotations

from azureml.core.webservice import AksWebservice, Webservice
from rig import SdkTest


class Update(SdkTest):
    def test_modes_in_every_direction(self) -> None:
        service = self.deploy("update-modes")
        steps = [
            ({"auth_enabled": False, "token_auth_enabled": True}, (False, True)),
            ({"auth_enabled": True, "token_auth_enabled": False}, (True, False)),
            ({"auth_enabled": False}, (False, False)),
            ({"token_auth_enabled": True}, (False, True)),
            ({"token_auth_enabled": False}, (False, False)),
            ({"auth_enabled": True}, (True, False)),
            ({"auth_enabled": True}, (True, False)),
        ]
        for given, flags in steps:
            service.update(**given)
            self.assertEqual((service.auth_enabled, service.token_auth_enabled), flags, given)

    def test_both_kinds_of_authentication_are_refused(self) -> None:
        service = self.deploy("update-both")
        with self.refused("cannot set both"):
            service.update(auth_enabled=True, token_auth_enabled=True)
        with self.refused("without disabling key auth"):
            service.update(token_auth_enabled=True)
        # An object that is not up to date gets past the SDK's check.
        service.update(auth_enabled=False)
        stale = Webservice(self.ws, "update-both")
        service.update(auth_enabled=True)
        with self.refused("key and token authentication cannot both be on"):
            stale.update(token_auth_enabled=True)
        stale.update_deployment_state()
        self.assertEqual((stale.auth_enabled, stale.token_auth_enabled), (True, False))

    def test_aci_has_keys_or_nothing(self) -> None:
        service = self.deploy_aci("update-aci")
        service.update(auth_enabled=True)
        self.assertTrue(service.auth_enabled)
        service.update(auth_enabled=False)
        self.assertFalse(service.auth_enabled)
        self.assertRaises(TypeError, service.update, token_auth_enabled=True)

    def test_tags_properties_and_description(self) -> None:
        service = self.deploy("update-said", AksWebservice.deploy_configuration(tags={"a": "1", "b": "2"}))
        service.update(description="new", properties={"p": "q"})
        self.assertEqual((service.description, service.tags), ("new", {"a": "1", "b": "2"}))
        service.add_tags({"b": "3", "c": "4"})
        service.remove_tags(["a"])
        service.add_properties({"path/with~signs": "r"})
        service = Webservice(self.ws, "update-said")
        self.assertEqual(service.tags, {"b": "3", "c": "4"})
        wanted = {"p": "q", "path/with~signs": "r", "scoregate.model.linear": "1"}
        self.assertEqual(service.properties, wanted)
        service.update(tags={})
        self.assertEqual(service.tags, {})
        service.add_properties({"p": "other"})
        self.assertEqual(Webservice(self.ws, "update-said").properties["p"], "q")

    def test_sizes_are_kept_and_shown(self) -> None:
        service = self.deploy("update-sizes")
        service.update(
            num_replicas=3,
            cpu_cores=0.5,
            memory_gb=2,
            scoring_timeout_ms=1000,
            max_request_wait_time=100,
            collect_model_data=True,
            enable_app_insights=True,
            period_seconds=20,
            namespace="models",
        )
        service = Webservice(self.ws, "update-sizes")
        self.assertEqual((service.num_replicas, service.scoring_timeout_ms), (3, 1000))
        self.assertEqual(service.container_resource_requirements.memory_in_gb, 2)
        self.assertEqual(service.liveness_probe_requirements.period_seconds, 20)
        self.assertTrue(service.enable_app_insights)

    def test_a_reader_may_not(self) -> None:
        self.deploy("update-rita")
        with self.refused("403", "contributor"):
            Webservice(self.rig.reader, "update-rita").update(description="mine")
