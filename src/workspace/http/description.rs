//! What OpenAPI says of an endpoint.
//!
//! It stands in the endpoint's file, and no [`Endpoint`](super::access::Endpoint) can be made without it. What the route
//! says already, and the refusals that follow from it, are added here: nobody has to write them.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Required};
use utoipa::{PartialSchema, ToSchema};

use super::access::{Access, Route};
use super::body::{JSON, JSON_PATCH};
use super::error::{Dialect, Error, ResourceError};
use super::operation::OperationObject;

/// The names of the security schemes.
pub(super) const BEARER: &str = "credential";
pub(super) const SECRET: &str = "secret";

/// Parameters that are described once, for all routes that have them.
pub(super) const SCOPE_PARAMETERS: [&str; 3] = ["subscription", "resource_group", "workspace"];

/// The heading under which an endpoint is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Services,
    Credentials,
    Operations,
    Validation,
    Models,
    Principals,
    SigningKeys,
    Gates,
    Workspace,
    Discovery,
    OnlineEndpoints,
    ResourceManager,
}

impl Group {
    pub(super) const ALL: [Self; 12] = [
        Self::Services,
        Self::Credentials,
        Self::Operations,
        Self::Validation,
        Self::Models,
        Self::Principals,
        Self::SigningKeys,
        Self::Gates,
        Self::Workspace,
        Self::Discovery,
        Self::OnlineEndpoints,
        Self::ResourceManager,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Credentials => "keys and tokens",
            Self::Operations => "operations",
            Self::Validation => "validation",
            Self::Models => "models",
            Self::Principals => "principals",
            Self::SigningKeys => "signing keys",
            Self::Gates => "gates",
            Self::Workspace => "workspace",
            Self::Discovery => "discovery",
            Self::OnlineEndpoints => "online endpoints",
            Self::ResourceManager => "resource manager",
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Services => "Models deployed as web services, and how their callers prove themselves.",
            Self::Credentials => "What callers of a service prove themselves with.",
            Self::Operations => "Changes on their way to every connected gate.",
            Self::Validation => "Whether a change would be carried out. Nothing is changed.",
            Self::Models => "Stand-ins: a workspace keeps no models, and Azure's clients want to name them.",
            Self::Principals => "Who may do what in the workspace.",
            Self::SigningKeys => "What tokens are signed with.",
            Self::Gates => "Who enforces policy.",
            Self::Workspace => "The workspace itself.",
            Self::Discovery => "What clients and verifiers of tokens ask for before they have a credential.",
            Self::OnlineEndpoints => "The services once more, as Azure's SDK v2 sees them.",
            Self::ResourceManager => "As much of Azure's as clients need to find the workspace.",
        }
    }
}

type Schemas = Vec<(String, RefOr<Schema>)>;

/// What OpenAPI says of an endpoint.
pub(super) struct Description {
    group: Group,
    id: &'static str,
    summary: &'static str,
    detail: &'static str,
    parameters: Vec<Parameter>,
    body: Option<RequestBody>,
    answers: BTreeMap<StatusCode, Response>,
    refusals: BTreeMap<StatusCode, &'static str>,
    schemas: Schemas,
}

impl Description {
    /// `id` is the name of the call in generated clients, `summary` a line without a full stop.
    pub(super) fn new(group: Group, id: &'static str, summary: &'static str) -> Self {
        Self {
            group,
            id,
            summary,
            detail: "",
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            refusals: BTreeMap::new(),
            schemas: Vec::new(),
        }
    }

    /// What a line does not say. Markdown.
    pub(super) fn detail(mut self, text: &'static str) -> Self {
        self.detail = text;
        self
    }

    /// A text in the path, other than the workspace's scope.
    pub(super) fn path(self, name: &'static str, text: &'static str) -> Self {
        self.parameter(ParameterIn::Path, name, String::schema(), text)
    }

    /// A fixed word in the path, where the route has a parameter.
    pub(super) fn path_word(self, name: &'static str, word: &'static str, text: &'static str) -> Self {
        self.parameter(ParameterIn::Path, name, words([word]).into(), text)
    }

    /// A text in the query. No parameter there is ever required.
    pub(super) fn query(self, name: &'static str, text: &'static str) -> Self {
        self.parameter(ParameterIn::Query, name, String::schema(), text)
    }

    /// A number in the query, from a smallest one.
    pub(super) fn query_number(self, name: &'static str, minimum: u8, text: &'static str) -> Self {
        let schema = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(minimum)).build();
        self.parameter(ParameterIn::Query, name, schema.into(), text)
    }

    /// A change that gates have to confirm, for which a client may say how long it waits.
    pub(super) fn waits(self) -> Self {
        let text = "`wait=60`: for how many seconds the operation waits for gates (RFC 7240), 600 at most, in place of \
            `workspace.enforcement_timeout`. Anything else is ignored.";
        self.parameter(ParameterIn::Header, "Prefer", String::schema(), text)
    }

    fn parameter(mut self, place: ParameterIn, name: &str, schema: RefOr<Schema>, text: &str) -> Self {
        let required = if place == ParameterIn::Path { Required::True } else { Required::False };
        let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(required);
        self.parameters.push(parameter.description(Some(text)).schema(Some(schema)).build());
        self
    }

    /// A JSON body.
    pub(super) fn body<T: ToSchema>(self, text: &'static str) -> Self {
        self.body_of::<T>(JSON, Required::True, text)
    }

    /// A JSON body that may be left out.
    pub(super) fn optional_body<T: ToSchema>(self, text: &'static str) -> Self {
        self.body_of::<T>(JSON, Required::False, text)
    }

    /// A JSON Patch body.
    pub(super) fn patch_body<T: ToSchema>(self, text: &'static str) -> Self {
        self.body_of::<T>(JSON_PATCH, Required::True, text)
    }

    fn body_of<T: ToSchema>(mut self, media_type: &str, required: Required, text: &str) -> Self {
        let content = ContentBuilder::new().schema(Some(self.reference::<T>())).build();
        let body = RequestBodyBuilder::new().content(media_type, content).required(Some(required));
        self.body = Some(body.description(Some(text)).build());
        self
    }

    /// An answer with a JSON body.
    pub(super) fn answer<T: ToSchema>(mut self, status: StatusCode, text: &'static str) -> Self {
        let response = self.json::<T>(text);
        self.respond(status, response.build())
    }

    /// An answer without a body.
    pub(super) fn empty_answer(self, status: StatusCode, text: &'static str) -> Self {
        self.respond(status, Response::new(text))
    }

    /// 202 with an operation, and with its URL in a header.
    pub(super) fn accepted(self, text: &'static str) -> Self {
        self.answer::<OperationObject>(StatusCode::ACCEPTED, text).header(
            StatusCode::ACCEPTED,
            "Operation-Location",
            "The operation's URL.",
        )
    }

    /// A header that an answer always has.
    pub(super) fn header(mut self, status: StatusCode, name: &str, text: &str) -> Self {
        if let Some(answer) = self.answers.get_mut(&status) {
            let header = HeaderBuilder::new().schema(Some(String::schema())).description(Some(text)).build();
            answer.headers.insert(name.to_owned(), header.into());
        }
        self
    }

    /// A refusal that follows from what is asked for, not from the route.
    pub(super) fn refusal(mut self, status: StatusCode, text: &'static str) -> Self {
        self.refusals.insert(status, text);
        self
    }

    fn respond(mut self, status: StatusCode, response: Response) -> Self {
        self.answers.insert(status, response);
        self
    }

    fn json<T: ToSchema>(&mut self, text: &str) -> ResponseBuilder {
        let content = ContentBuilder::new().schema(Some(self.reference::<T>())).build();
        ResponseBuilder::new().description(text).content(JSON, content)
    }

    /// A reference to a schema, which is added to those of the document with all that it refers to.
    fn reference<T: ToSchema>(&mut self) -> RefOr<Schema> {
        self.schemas.push((T::name().into(), T::schema()));
        T::schemas(&mut self.schemas);
        Ref::from_schema_name(T::name()).into()
    }

    /// The operation at a route, complete, and the schemas that it refers to.
    pub(super) fn operation(mut self, route: &Route) -> (Operation, Schemas) {
        let responses = self.responses(route);
        let operation = OperationBuilder::new()
            .tag(self.group.name())
            .operation_id(Some(self.id))
            .summary(Some(self.summary))
            .description(Some(self.whole_text(route)))
            .request_body(self.body);
        let operation = scope_parameters(route).fold(operation, OperationBuilder::parameter_ref);
        let operation = self.parameters.into_iter().fold(operation, OperationBuilder::parameter);
        let operation = responses
            .into_iter()
            .fold(operation, |operation, (status, response)| operation.response(status.as_str(), response));
        let operation = match route.access {
            Access::Anonymous => operation,
            Access::Role(_) => operation.security(SecurityRequirement::new(BEARER, [""; 0])),
            Access::Secret => operation.security(SecurityRequirement::new(SECRET, [""; 0])),
        };
        (operation.build(), self.schemas)
    }

    fn whole_text(&self, route: &Route) -> String {
        let access = match route.access {
            Access::Anonymous => "Anonymous.".to_owned(),
            Access::Role(role) => format!("Needs the role `{}` or one that includes it.", role.as_str()),
            Access::Secret => {
                "Needs a principal's credential as the secret of a managed identity.".to_owned()
            }
        };
        format!("{}\n\n{access}", self.detail).trim_start().to_owned()
    }

    /// All of them: those that are described, and those that come before an endpoint's own code or from the extractors
    /// that it uses.
    fn responses(&mut self, route: &Route) -> BTreeMap<StatusCode, RefOr<Response>> {
        let dialect = Dialect::of(&route.path);
        let answers = std::mem::take(&mut self.answers).into_iter();
        let mut responses: BTreeMap<_, _> =
            answers.map(|(status, answer)| (status, RefOr::from(answer))).collect();
        let described =
            self.refusals.iter().map(|(status, text)| (*status, refusal(dialect, text).build().into()));
        responses.extend(described);
        for refusal in self.common_refusals(route) {
            let reference = || Ref::from_response_name(refusal.name_in(dialect)).into();
            responses.entry(refusal.status).or_insert_with(reference);
        }
        responses
    }

    fn common_refusals(&self, route: &Route) -> Vec<&'static Refusal> {
        let mut refusals = Vec::new();
        if let Access::Role(_) = route.access {
            refusals.extend([&UNAUTHENTICATED, &FORBIDDEN, &UNAVAILABLE]);
        }
        if route.path.contains('{') {
            refusals.push(&NOT_FOUND);
        }
        if self.body.is_some() {
            refusals.extend([&BAD_REQUEST, &TOO_LONG, &MEDIA_TYPE]);
        }
        refusals
    }
}

fn refusal(dialect: Dialect, text: &str) -> ResponseBuilder {
    let name = match dialect {
        Dialect::ModelManagement => Error::name(),
        Dialect::ResourceManager => ResourceError::name(),
    };
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).build();
    ResponseBuilder::new().description(text).content(JSON, content)
}

/// The schema of a text that is one of a few.
pub(super) fn words<const N: usize>(words: [&str; N]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

/// References to the parameters of a route that are described once for all.
fn scope_parameters(route: &Route) -> impl Iterator<Item = Ref> {
    let in_route = |name: &&str| route.path.contains(&format!("{{{name}}}"));
    SCOPE_PARAMETERS
        .into_iter()
        .filter(in_route)
        .map(|name| Ref::new(format!("#/components/parameters/{name}")))
}

/// A refusal that many routes have in common.
pub(super) struct Refusal {
    name: &'static str,
    status: StatusCode,
    text: &'static str,
}

impl Refusal {
    /// Its name among the components.
    pub(super) fn name_in(&self, dialect: Dialect) -> String {
        match dialect {
            Dialect::ModelManagement => self.name.to_owned(),
            Dialect::ResourceManager => format!("Resource{}", self.name),
        }
    }

    pub(super) fn response(&self, dialect: Dialect) -> Response {
        let response = refusal(dialect, self.text);
        if self.status != StatusCode::UNAUTHORIZED {
            return response.build();
        }
        let challenge = HeaderBuilder::new().schema(Some(String::schema()));
        response
            .header("WWW-Authenticate", challenge.description(Some("RFC 6750, section 3.")).build())
            .build()
    }
}

const BAD_REQUEST: Refusal = Refusal {
    name: "BadRequest",
    status: StatusCode::BAD_REQUEST,
    text: "Something in the request cannot be as it is: `details` names it, and never repeats its value.",
};
const UNAUTHENTICATED: Refusal = Refusal {
    name: "Unauthorized",
    status: StatusCode::UNAUTHORIZED,
    text: "No credential, or one that is nobody's.",
};
const FORBIDDEN: Refusal = Refusal {
    name: "Forbidden",
    status: StatusCode::FORBIDDEN,
    text: "The credential's role does not include the one that this needs.",
};
const NOT_FOUND: Refusal = Refusal {
    name: "NotFound",
    status: StatusCode::NOT_FOUND,
    text: "There is nothing at this path: for one that names a workspace, not this workspace.",
};
const TOO_LONG: Refusal = Refusal {
    name: "ContentTooLarge",
    status: StatusCode::PAYLOAD_TOO_LARGE,
    text: "The body is longer than 1 MiB.",
};
const MEDIA_TYPE: Refusal = Refusal {
    name: "UnsupportedMediaType",
    status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
    text: "The body is not of the declared media type.",
};
const UNAVAILABLE: Refusal = Refusal {
    name: "ServiceUnavailable",
    status: StatusCode::SERVICE_UNAVAILABLE,
    text: "The workspace's store does not work. Nothing is changed by halves; where it failed at the end of a commit the whole \
        change may have been done: read before trying again.",
};

/// All of them.
pub(super) const REFUSALS: [&Refusal; 7] =
    [&BAD_REQUEST, &UNAUTHENTICATED, &FORBIDDEN, &NOT_FOUND, &TOO_LONG, &MEDIA_TYPE, &UNAVAILABLE];
