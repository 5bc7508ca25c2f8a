//! `GET /openapi.json`: what it says is complete, committed, and, by the harness, true of every answer.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::Method;
use scoregate::workspace::http::{Access, openapi, routes};
use serde_json::Value;

use crate::harness::TestWorkspace;

fn document() -> Value {
    serde_json::from_str(openapi()).unwrap()
}

/// `POST /path`, and what is said of it.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let operations = item.as_object().unwrap().iter();
            operations
                .map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
        })
        .collect()
}

#[test]
fn openapi_is_the_committed_one() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let committed = std::fs::read_to_string(&golden).unwrap_or_default();
    let current = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi.json");
    std::fs::write(&current, openapi()).unwrap();
    assert!(
        committed == openapi(),
        "docs/openapi.json is not what the code says. Look at the difference, and renew it:\n  \
         diff docs/openapi.json {current}\n  cp {current} docs/openapi.json",
        current = current.display(),
    );
}

#[tokio::test]
async fn openapi_is_served_to_everybody() {
    let test = TestWorkspace::start().await;
    let answer = test.request(Method::GET, "/openapi.json").anonymous().send().await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.body, document());
}

#[test]
fn openapi_has_every_route_and_no_other() {
    let document = document();
    let described: BTreeSet<_> = operations(&document).into_iter().map(|(name, _)| name).collect();
    let served: BTreeSet<_> =
        routes().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    let undescribed: Vec<_> = served.difference(&described).collect();
    assert!(undescribed.is_empty(), "routes that docs/openapi.json does not have: {undescribed:#?}");
    assert_eq!(served.len(), described.len(), "docs/openapi.json has routes that are not served");
}

#[test]
fn openapi_names_the_role_of_each_route() {
    let document = document();
    let operations = operations(&document);
    for route in routes() {
        let name = format!("{} {}", route.method, route.path);
        let (_, operation) = operations.iter().find(|(operation, _)| *operation == name).unwrap();
        let text = operation["description"].as_str().unwrap();
        let (scheme, said) = match route.access {
            Access::Anonymous => (None, "Anonymous"),
            Access::Secret => (Some("secret"), "credential as the secret"),
            Access::Role(role) => (Some("credential"), role.as_str()),
        };
        assert!(text.contains(said), "{name}: {text}");
        assert_eq!(operation.get("security").is_some(), scheme.is_some(), "{name}");
        if let Some(scheme) = scheme {
            assert!(operation["security"][0][scheme].is_array(), "{name}");
        }
        if let Access::Role(_) = route.access {
            assert!(operation["responses"]["401"].is_object(), "{name}");
            assert!(operation["responses"]["403"].is_object(), "{name}");
        }
    }
}

/// What compiles may still be incomplete.
#[test]
fn openapi_describes_each_part() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{name}: no summary");
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap()),
            "{name}: its id is another one's, too"
        );
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let parameter = |parameter: &Value| match parameter["$ref"].as_str() {
            Some(reference) => reference.rsplit('/').next().unwrap().to_owned(),
            None => parameter["name"].as_str().unwrap().to_owned(),
        };
        let described: BTreeSet<_> = parameters.iter().map(parameter).collect();
        for part in name.split('{').skip(1).map(|part| part.split('}').next().unwrap()) {
            assert!(described.contains(part), "{name}: the parameter `{part}` is not described");
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let said = response.get("$ref").or_else(|| response.get("description"));
            assert!(said.is_some_and(|said| said != ""), "{name}: {status} is not described");
        }
    }
}
