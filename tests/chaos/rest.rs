//! The workspace's REST, whose answers may not come.

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::{Answer, Request};

/// What a service is, as the workspace says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) key: bool,
    pub(crate) token: bool,
    pub(crate) keys: (String, String),
}

#[derive(Debug, Clone)]
pub(crate) struct Rest {
    pub(crate) address: SocketAddr,
    pub(crate) scope: String,
    pub(crate) credential: String,
}

impl Rest {
    /// A call below the workspace's path.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        self.send(method, &format!("/modelmanagement/v1.0{}{path}", self.scope), body)
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        let mut request = Request::new(method, path).bearer(&self.credential);
        if let Some(body) = body {
            let kind = if method == "PATCH" { "application/json-patch+json" } else { "application/json" };
            request = request.header("content-type", kind).body(body.to_string());
        } else if method != "GET" {
            request = request.body("");
        }
        request.try_send(self.address)
    }

    /// The patch of the two flags that make an auth mode.
    pub(crate) fn modes(key: bool, token: bool) -> Value {
        let replace = |path: &str, value: bool| json!({ "op": "replace", "path": path, "value": value });
        json!([replace("/authEnabled", key), replace("/aadAuthEnabled", token)])
    }

    /// Reads a service; `None` if there is none.
    pub(crate) fn look(&self, name: &str) -> Result<Option<Seen>, String> {
        let service =
            self.call("GET", &format!("/services/{name}"), None).map_err(|error| error.to_string())?;
        if service.status == 404 {
            return Ok(None);
        }
        let listed = self.call("POST", &format!("/services/{name}/listkeys"), None);
        let listed = listed.map_err(|error| error.to_string())?;
        if service.status != 200 || listed.status != 200 {
            return Err(format!("{} and {}", service.status, listed.status));
        }
        let (service, listed) = (service.json(), listed.json());
        let key = |member: &str| listed[member].as_str().unwrap_or_default().to_owned();
        Ok(Some(Seen {
            key: service["authEnabled"] == true,
            token: service["aadAuthEnabled"] == true,
            keys: (key("primaryKey"), key("secondaryKey")),
        }))
    }
}
