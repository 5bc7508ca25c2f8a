//! What docs/openapi.json promises, held against every answer that a test gets.

use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use scoregate::workspace::http::openapi;
use serde_json::{Value, json};

const URL: &str = "https://scoregate.invalid/openapi.json";

static CONTRACT: LazyLock<Contract> = LazyLock::new(Contract::read);

/// An answer to a request.
pub(crate) struct Given<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    /// Null where there is none.
    pub(crate) body: &'a Value,
}

impl Given<'_> {
    /// Whether it is one that its route promises. Paths without a route promise nothing.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Some(route) = CONTRACT.route(self.method, self.path) else { return Ok(()) };
        let promised = route.answers.iter().find(|answer| answer.status == self.status);
        let problem = promised.map_or(Some("the status is not described".to_owned()), |it| it.problem(self));
        let case =
            || format!("docs/openapi.json: {} {}: {} {}", self.method, route.path, self.status, self.body);
        problem.map_or(Ok(()), |problem| Err(format!("{}\n{problem}", case())))
    }
}

/// The route that serves a path, as `POST /path/{name}`.
pub(crate) fn route(method: &Method, path: &str) -> Option<String> {
    CONTRACT.route(method, path).map(|route| format!("{} {}", route.method, route.path))
}

struct Contract {
    routes: Vec<PromisedRoute>,
    schemas: Schemas,
}

struct PromisedRoute {
    method: String,
    path: String,
    answers: Vec<PromisedAnswer>,
}

struct PromisedAnswer {
    status: StatusCode,
    headers: Vec<String>,
    schema: Option<SchemaIndex>,
}

impl Contract {
    fn read() -> Self {
        let mut document: Value = serde_json::from_str(openapi()).unwrap();
        close(&mut document["components"]["schemas"]);
        let mut reader = Reader { compiler: Compiler::new(), schemas: Schemas::new(), document };
        reader.compiler.add_resource(URL, reader.document.clone()).unwrap();
        let routes = reader.routes();
        Self { routes, schemas: reader.schemas }
    }

    /// The route that serves a path: of several, the one with the fewest parameters, as the router has it.
    fn route(&self, method: &Method, path: &str) -> Option<&PromisedRoute> {
        let serving =
            self.routes.iter().filter(|route| route.method == method.as_str() && route.serves(path));
        serving.min_by_key(|route| route.path.matches('{').count())
    }
}

impl PromisedRoute {
    fn serves(&self, path: &str) -> bool {
        let (ours, theirs) = (self.path.split('/'), path.split('/'));
        ours.clone().count() == theirs.clone().count()
            && ours
                .zip(theirs)
                .all(|(our, their)| our == their || (our.starts_with('{') && !their.is_empty()))
    }
}

impl PromisedAnswer {
    fn problem(&self, given: &Given<'_>) -> Option<String> {
        if let Some(header) = self.headers.iter().find(|header| !given.headers.contains_key(*header)) {
            return Some(format!("the header `{header}` is missing"));
        }
        match self.schema {
            None => (!given.body.is_null()).then(|| "it should have no body".to_owned()),
            Some(schema) => {
                CONTRACT.schemas.validate(given.body, schema).err().map(|error| format!("{error:#}"))
            }
        }
    }
}

struct Reader {
    compiler: Compiler,
    schemas: Schemas,
    document: Value,
}

impl Reader {
    fn routes(&mut self) -> Vec<PromisedRoute> {
        let paths = self.document["paths"].as_object().unwrap().clone();
        let mut routes = Vec::new();
        for (path, item) in &paths {
            for (method, operation) in item.as_object().unwrap() {
                let pointer = format!("/paths/{}/{method}/responses", escaped(path));
                let responses = operation["responses"].as_object().unwrap();
                let answers = responses.keys().map(|status| self.answer(&pointer, status)).collect();
                routes.push(PromisedRoute { method: method.to_uppercase(), path: path.clone(), answers });
            }
        }
        routes
    }

    fn answer(&mut self, responses: &str, status: &str) -> PromisedAnswer {
        let mut pointer = format!("{responses}/{status}");
        if let Some(reference) = self.document.pointer(&pointer).unwrap()["$ref"].as_str() {
            pointer = reference.trim_start_matches('#').to_owned();
        }
        let response = self.document.pointer(&pointer).unwrap();
        let headers = response["headers"].as_object().into_iter().flat_map(serde_json::Map::keys);
        let headers = headers.cloned().collect();
        let has_body = response.get("content").is_some();
        let schema = has_body.then(|| {
            let url = format!("{URL}#{pointer}/content/application~1json/schema")
                .replace('{', "%7B")
                .replace('}', "%7D");
            self.compiler.compile(&url, &mut self.schemas).unwrap()
        });
        PromisedAnswer { status: status.parse().unwrap(), headers, schema }
    }
}

/// RFC 6901, section 3.
fn escaped(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

/// A member that is not described is a fault of the description: here, though not for clients, it is an error.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") && members.get("type").is_some() {
                members.entry("additionalProperties").or_insert(false.into());
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn check_finds_answers_that_are_not_described() {
    let mut accepted = HeaderMap::new();
    accepted.insert("operation-location", "http://h/x".parse().unwrap());
    let path = crate::harness::TestWorkspace::path("/services/svc/listkeys");
    let problem = |status: u16, body: Value| {
        let status = StatusCode::from_u16(status).unwrap();
        let given = Given { method: &Method::POST, path: &path, status, headers: &accepted, body: &body };
        given.check().unwrap_err()
    };
    let keys = |third: &str| json!({ "primaryKey": "a", "secondaryKey": "b", third: 1 });
    let cases = [
        (201, keys("secondaryKey"), "the status is not described"),
        (401, json!({}), "the header `WWW-Authenticate` is missing"),
        (200, json!({ "primaryKey": "a" }), "missing properties 'secondaryKey'"),
        (200, keys("third"), "additionalProperties 'third' not allowed"),
        (200, keys("secondaryKey"), "want string, but got number"),
    ];
    for (status, body, expected) in cases {
        let problem = problem(status, body.clone());
        assert!(problem.contains(expected), "{status} {body}: {problem}");
    }
}
