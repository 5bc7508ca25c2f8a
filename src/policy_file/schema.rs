//! What editors are told of the form.

/// JSON Schema, 2020-12.
pub(crate) const SCHEMA: &str = include_str!("../../docs/policy.schema.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::policy_file::{Desired, FixedPolicy};

    fn schema() -> Value {
        serde_json::from_str(SCHEMA).unwrap()
    }

    fn accepts(document: &Value) -> bool {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("file:///policy.schema.json", schema()).unwrap();
        let index = compiler.compile("file:///policy.schema.json", &mut schemas).unwrap();
        schemas.validate(document, index).is_ok()
    }

    /// Whether a gate or `apply` takes it.
    fn is_taken(document: &Value) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.yaml");
        // JSON is YAML.
        std::fs::write(&path, document.to_string()).unwrap();
        FixedPolicy::check(&path, None).is_ok() || Desired::read(&[path]).is_ok()
    }

    /// The fields that a reader knows, by what it says to one that it does not know.
    fn known_fields(document: &Value) -> BTreeSet<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.yaml");
        std::fs::write(&path, document.to_string()).unwrap();
        let error = FixedPolicy::check(&path, None).unwrap_err().to_string();
        let (_, known) = error.split_once("no field `unknown` here, but ").expect(&error);
        known.split(", ").map(|name| name.trim_matches('`').to_owned()).collect()
    }

    fn properties(pointer: &str) -> BTreeSet<String> {
        schema().pointer(pointer).unwrap()["properties"].as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn schema_has_the_fields_that_the_code_knows() {
        let service = |member: &str, value: Value| {
            let mut service = json!({ "name": "svc", "authMode": "key" });
            service[member] = value;
            json!({ "version": "scoregate/v1", "services": [service] })
        };
        let set =
            |set: Value| json!({ "version": "scoregate/v1", "services": [], "verificationKeys": [set] });
        let unknown = json!({ "unknown": 1 });
        assert_eq!(known_fields(&unknown), properties(""));
        assert_eq!(known_fields(&service("unknown", json!(1))), properties("/$defs/service"));
        let keys = known_fields(&service("keys", unknown.clone()));
        assert_eq!(keys, properties("/$defs/service/properties/keys"));
        let digest = known_fields(&service("keys", json!({ "primary": unknown.clone() })));
        assert_eq!(digest, properties("/$defs/digest"));
        assert_eq!(known_fields(&set(unknown.clone())), properties("/$defs/verificationKeys"));
        let jwks = "/$defs/verificationKeys/properties/jwks";
        assert_eq!(known_fields(&set(json!({ "jwks": unknown }))), properties(jwks));
    }

    fn with(change: impl FnOnce(&mut Value)) -> Value {
        let digest = |digit: &str| json!({ "digest": digit.repeat(64), "pepperId": "0123456789abcdef" });
        let mut document = json!({
            "version": "scoregate/v1",
            "services": [{
                "name": "my-model", "computeType": "AKS", "authMode": "key",
                "hosts": ["models.example.com", "[::1]"], "pathPrefixes": ["/", "/v1/my-model"],
                "uid": "my-model", "tokensNotBefore": 7,
                "keys": { "primary": digest("1"), "secondary": digest("2") },
            }],
        });
        change(&mut document["services"][0]);
        document
    }

    fn without(service: &mut Value, members: &[&str]) {
        members.iter().for_each(|member| drop(service.as_object_mut().unwrap().remove(*member)));
    }

    #[test]
    fn schema_and_code_agree() {
        let of_a_workspace = |service: &mut Value| without(service, &["uid", "keys", "tokensNotBefore"]);
        let good = [
            with(|_| {}),
            with(|service| {
                without(service, &["uid", "computeType", "hosts", "pathPrefixes", "tokensNotBefore"]);
            }),
            with(|service| without(&mut service["keys"], &["primary"])),
            with(of_a_workspace),
            with(|service| {
                of_a_workspace(service);
                service["tags"] = json!({ "team": "a", "cost": 7 });
                service["description"] = json!("");
                service["computeType"] = json!("aci");
            }),
            json!({ "version": "scoregate/v1", "services": [] }),
        ];
        for document in &good {
            assert!(accepts(document) && is_taken(document), "{document:#}");
        }
        let bad = [
            ("name", json!("My-Model")),
            ("name", json!("ab")),
            ("computeType", json!("VM")),
            ("authMode", json!("none")),
            ("authMode", json!("token")),
            ("authMode", Value::Null),
            ("hosts", json!("models.example.com")),
            ("hosts", json!(["*.example.com"])),
            ("hosts", json!(["Models.example.com"])),
            ("hosts", json!(["a", "a"])),
            ("hosts", (0..33).map(|index| format!("host-{index}")).collect()),
            ("pathPrefixes", json!(["/v1/"])),
            ("pathPrefixes", json!(["/a b"])),
            ("pathPrefixes", json!(["v1"])),
            ("uid", json!("my_model")),
            ("keys", json!({})),
            ("keys", json!({ "primary": { "digest": "1".repeat(63), "pepperId": "0123456789abcdef" } })),
            ("keys", json!({ "primary": { "digest": "1".repeat(64) } })),
            ("tokensNotBefore", json!(-1)),
            ("tags", json!({ "a": [] })),
        ];
        for (member, value) in bad {
            let document = with(|service| service[member] = value.clone());
            assert!(!accepts(&document), "the schema accepts {member}: {value}");
            assert!(!is_taken(&document), "the code takes {member}: {value}");
        }
        let missing = with(|service| without(service, &["authMode"]));
        assert!(!accepts(&missing) && !is_taken(&missing));
        let token_on_aci = with(|service| {
            of_a_workspace(service);
            service["computeType"] = json!("ACI");
            service["authMode"] = json!("token");
        });
        assert!(!accepts(&token_on_aci) && !is_taken(&token_on_aci));
    }
}
