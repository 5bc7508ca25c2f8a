"""Services made with the SDK: what they are without being told, what is refused, and what their user is shown."""

from __future__ import annotations

from azureml._restclient.exceptions import ServiceException
from azureml.core import Environment
from azureml.core.model import InferenceConfig, Model
from azureml.core.webservice import AciWebservice, AksWebservice, Webservice
from rig import SdkTest, output_of


class Deploy(SdkTest):
    def test_aks_has_keys_unless_told_otherwise(self) -> None:
        service = self.deploy("deploy-aks")
        self.assertIsInstance(service, AksWebservice)
        self.assertEqual((service.auth_enabled, service.token_auth_enabled), (True, False))
        self.assertEqual(service.state, "Healthy")
        self.assertTrue(service.scoring_uri.endswith("/api/v1/service/deploy-aks/score"))

    def test_aks_modes(self) -> None:
        settings = {
            (False, True): {"token_auth_enabled": True, "auth_enabled": False},
            (False, False): {"auth_enabled": False},
        }
        for index, (flags, given) in enumerate(settings.items()):
            service = self.deploy(f"deploy-mode-{index}", AksWebservice.deploy_configuration(**given))
            self.assertEqual((service.auth_enabled, service.token_auth_enabled), flags)

    def test_aks_with_tokens_on_and_keys_unsaid_has_no_keys(self) -> None:
        service = self.deploy("deploy-token", AksWebservice.deploy_configuration(token_auth_enabled=True))
        self.assertEqual((service.auth_enabled, service.token_auth_enabled), (False, True))

    def test_aci_is_open_unless_told_otherwise(self) -> None:
        service = self.deploy_aci("deploy-aci")
        self.assertIsInstance(service, AciWebservice)
        self.assertFalse(service.auth_enabled)
        self.assertTrue(self.deploy_aci("deploy-aci-keys", auth_enabled=True).auth_enabled)

    def test_output_of_waiting(self) -> None:
        configuration = AksWebservice.deploy_configuration()
        model = Model(self.ws, "linear")
        service = Model.deploy(self.ws, "deploy-shown", [model], deployment_config=configuration)
        output = output_of(lambda: service.wait_for_deployment(show_output=True))
        self.assertIn('AKS service creation operation finished, operation "Succeeded"', output)

    def test_everything_that_is_said_is_kept(self) -> None:
        configuration = AksWebservice.deploy_configuration(
            autoscale_enabled=True,
            autoscale_min_replicas=2,
            autoscale_max_replicas=4,
            cpu_cores=0.5,
            memory_gb=2,
            tags={"team": "blue"},
            properties={"origin": "test"},
            description="said",
            primary_key="a-chosen-primary-key",
            secondary_key="a-chosen-secondary-key",
            namespace="models",
            compute_target_name="cluster",
        )
        self.deploy("deploy-said", configuration)
        service = Webservice(self.ws, "deploy-said")
        self.assertEqual(service.tags, {"team": "blue"})
        self.assertEqual(service.properties, {"origin": "test", "scoregate.model.linear": "1"})
        self.assertEqual(service.description, "said")
        self.assertEqual((service.compute_name, service.namespace), ("cluster", "models"))
        self.assertEqual((service.autoscaler.min_replicas, service.autoscaler.max_replicas), (2, 4))
        self.assertEqual(service.container_resource_requirements.cpu, 0.5)
        self.assertEqual(service.get_keys(), ("a-chosen-primary-key", "a-chosen-secondary-key"))

    def test_a_tag_names_where_a_model_runs_already(self) -> None:
        uri = "https://models.example/forecast/score"
        configuration = AksWebservice.deploy_configuration(tags={"scoregate.scoringUri": uri})
        service = self.deploy("deploy-there", configuration)
        self.assertEqual(service.scoring_uri, uri)
        self.assertEqual(service.swagger_uri, "https://models.example/forecast/swagger.json")
        service.add_tags({"scoregate.scoringUri": "http://elsewhere.example/score"})
        self.assertEqual(Webservice(self.ws, "deploy-there").scoring_uri, "http://elsewhere.example/score")
        with self.refused("scoregate.scoringUri", "http or https"):
            service.add_tags({"scoregate.scoringUri": "elsewhere"})

    def test_both_kinds_of_authentication_are_refused(self) -> None:
        with self.refused("auth_enabled and token_auth_enabled cannot both be true"):
            AksWebservice.deploy_configuration(auth_enabled=True, token_auth_enabled=True)
        # Past the SDK's own check, the workspace's message is what is shown.
        configuration = AksWebservice.deploy_configuration(token_auth_enabled=True)
        configuration.auth_enabled = True
        with self.refused("both"):
            self.deploy("deploy-both", configuration)
        with self.refused("WebserviceNotFound"):
            Webservice(self.ws, "deploy-both")

    def test_a_name_that_is_taken_is_refused_and_overwrite_is_not(self) -> None:
        self.deploy("deploy-twice")
        with self.refused("deploy-twice", "exists"):
            self.deploy("deploy-twice")
        configuration = AksWebservice.deploy_configuration(description="second", token_auth_enabled=True)
        service = self.deploy("deploy-twice", configuration, overwrite=True)
        self.assertEqual((service.description, service.token_auth_enabled), ("second", True))

    def test_an_entry_script_is_refused_with_what_to_do_instead(self) -> None:
        script = self.rig.system.folder / "score.py"
        script.write_text("def init(): pass\ndef run(data): return data\n")
        inference = InferenceConfig(str(script), environment=Environment("any"))
        refused = (
            lambda: self.deploy("deploy-script", inference_config=inference),
            lambda: Model.register(self.ws, str(script), "script"),
        )
        for call in refused:
            with self.assertRaises(ServiceException) as raised:
                call()
            self.assertIn("Deploy without `inference_config`", str(raised.exception))

    def test_a_reader_may_not(self) -> None:
        model = Model(self.rig.reader, id="linear:1")
        configuration = AksWebservice.deploy_configuration()
        with self.refused("403", "contributor"):
            Model.deploy(self.rig.reader, "deploy-rita", [model], deployment_config=configuration)
