//! The workspace's REST, as its owner uses it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::addresses::Addresses;
use super::{Answer, Request, wait_for};

/// Says who asks, and where.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    address: SocketAddr,
    path: String,
    credential: String,
}

/// Both keys of a service.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) primary: String,
    pub(crate) secondary: String,
}

/// An operation that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) error: String,
}

impl Workspace {
    pub(crate) fn of(addresses: &Addresses, data_dir: &Path) -> Self {
        Self {
            address: addresses.socket("workspace"),
            path: format!("/modelmanagement/v1.0{}", addresses.text("workspace_scope")),
            credential: std::fs::read_to_string(data_dir.join("owner-credential")).unwrap(),
        }
    }

    /// This credential, where another one works.
    pub(crate) fn with_address_of(&self, other: &Self) -> Self {
        Self { credential: self.credential.clone(), ..other.clone() }
    }

    /// Makes a service and waits until every connected gate knows it. Members as in Azure's REST.
    pub(crate) fn create(&self, name: &str, members: &Value) {
        let mut body = json!({ "name": name, "computeType": "AKS" });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let answer = self.call("POST", "/services", Some(&body));
        self.succeed(&answer);
    }

    /// Makes an AKS service with keys.
    pub(crate) fn create_with_keys(&self, name: &str) -> Keys {
        self.create(name, &json!({}));
        self.keys(name)
    }

    /// Makes an AKS service with tokens.
    pub(crate) fn create_with_tokens(&self, name: &str) {
        self.create(name, &json!({ "aadAuthEnabled": true }));
    }

    /// Makes a service that is open to anybody.
    pub(crate) fn create_open(&self, name: &str) {
        self.create(name, &json!({ "authEnabled": false }));
    }

    pub(crate) fn keys(&self, name: &str) -> Keys {
        let keys = self.ok("POST", &format!("/services/{name}/listkeys"), None);
        let key = |member: &str| keys[member].as_str().unwrap().to_owned();
        Keys { primary: key("primaryKey"), secondary: key("secondaryKey") }
    }

    /// Regenerates a key, `Primary` or `Secondary`, and waits for the end of the operation.
    pub(crate) fn regenerate(&self, name: &str, slot: &str) -> Operation {
        let body = json!({ "keyType": slot, "keyValue": null });
        self.finished(&self.call("POST", &format!("/services/{name}/regenerateKeys"), Some(&body)))
    }

    pub(crate) fn token(&self, name: &str) -> String {
        let answer = self.call("POST", &format!("/services/{name}/token"), None);
        answer.json()["accessToken"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
    }

    /// Switches key and token authentication on or off. The gates follow in their own time.
    pub(crate) fn set_auth(&self, name: &str, key: bool, token: bool) {
        let replace = |path: &str, value: bool| json!({ "op": "replace", "path": path, "value": value });
        let patch = json!([replace("/authEnabled", key), replace("/aadAuthEnabled", token)]);
        self.ok("PATCH", &format!("/services/{name}"), Some(&patch));
    }

    pub(crate) fn delete(&self, name: &str) {
        let answer = self.call("DELETE", &format!("/services/{name}"), None);
        self.succeed(&answer);
    }

    /// Makes a principal and returns its credential.
    pub(crate) fn create_principal(&self, name: &str, role: &str) -> String {
        let body = json!({ "name": name, "role": role });
        let answer = self.request("POST", "/scoregate/v1/principals", Some(&body));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["credential"].as_str().unwrap().to_owned()
    }

    /// How often the credential was accepted, as the gates have said: `primary`, `secondary` or `token`.
    pub(crate) fn uses(&self, name: &str, credential: &str) -> u64 {
        let answer = self.request("GET", &format!("/scoregate/v1/services/{name}/uses"), None);
        let uses = answer.json();
        let found = uses["value"].as_array().unwrap().iter().find(|used| used["credential"] == credential);
        found.unwrap()["count"].as_u64().unwrap()
    }

    /// Puts a service in shadow for so many seconds, or ends it; the gates enforce it then.
    pub(crate) fn set_shadow(&self, name: &str, seconds: Option<u64>) {
        let patch = json!([{ "op": "replace", "path": "/scoregate/shadowForSeconds", "value": seconds }]);
        self.ok("PATCH", &format!("/services/{name}"), Some(&patch));
    }

    pub(crate) fn operation(&self, id: &str) -> Value {
        self.ok("GET", &format!("/operations/{id}"), None)
    }

    /// A call below the workspace's path.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.request(method, &format!("{}{path}", self.path), body)
    }

    fn ok(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.call(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut request = Request::new(method, path).bearer(self.credential.trim());
        if let Some(body) = body {
            let kind = if method == "PATCH" { "application/json-patch+json" } else { "application/json" };
            request = request.header("content-type", kind).body(body.to_string());
        } else if method != "GET" {
            request = request.body("");
        }
        request.send(self.address)
    }

    fn succeed(&self, answer: &Answer) {
        let operation = self.finished(answer);
        assert_eq!(operation.state, "Succeeded", "{}", operation.error);
    }

    /// The operation that an answer names, when it has ended.
    fn finished(&self, answer: &Answer) -> Operation {
        assert_eq!(answer.status, 202, "{}", answer.text());
        let id = answer.header("operation-location").unwrap().rsplit('/').next().unwrap();
        wait_for("the operation", Duration::from_secs(20), || {
            let operation = self.operation(id);
            let state = operation["state"].as_str().unwrap();
            let ended = !matches!(state, "NotStarted" | "Running");
            let (id, state, error) = (id.to_owned(), state.to_owned(), operation["error"].to_string());
            ended.then_some(Operation { id, state, error })
        })
    }
}
