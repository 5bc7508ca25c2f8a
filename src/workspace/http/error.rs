//! What a client is told when it is refused.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::workspace::{Role, WorkspaceError};

/// Why a request was not carried out. Nothing was changed.
///
/// As a response it is a status and headers; [`observe`](super::observe::observe), which knows the request's id,
/// adds the body.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// No bearer, or one that is nobody's: the two are not told apart.
    #[error("this needs the bearer credential of a principal of the workspace")]
    Unauthenticated,
    /// No secret where one is exchanged for a session token.
    #[error(
        "a session token is given for the credential of a principal: set MSI_SECRET (or IDENTITY_HEADER) to it"
    )]
    NoSecret,
    /// A secret that is not the credential of somebody who may have a session.
    #[error(
        "the secret is not the credential of a principal of the workspace: check MSI_SECRET (or IDENTITY_HEADER)"
    )]
    WrongSecret,
    /// The principal's role does not include the needed one.
    #[error("this needs the role `{needed}`; `{name}` is `{has}`", needed = .needed.as_str(), has = .has.as_str())]
    Forbidden {
        /// The role of the route.
        needed: Role,
        /// Whose credential was sent.
        name: String,
        /// Its role.
        has: Role,
    },
    /// Nothing is at this path.
    #[error("there is nothing at this path")]
    UnknownPath,
    /// The path names a subscription, a resource group or a workspace that is not this one.
    #[error("this is not the workspace of that path")]
    ForeignScope,
    /// Nothing of this kind is kept.
    #[error("there is no {kind} `{name}`")]
    Unknown {
        /// What was asked for.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Files for an image that is not built here.
    #[error(
        "scoregate takes no files: it builds no image and starts no pod. Deploy without `inference_config`, and run the \
         scoring script in a model server of your own behind Envoy"
    )]
    NoFiles,
    /// The path exists, but not with this method.
    #[error("this path does not take this method")]
    MethodNotAllowed,
    /// A body of another media type.
    #[error("the body must be sent with `Content-Type: {0}`")]
    MediaType(&'static str),
    /// A body beyond the limit, in bytes.
    #[error("the body is longer than {0} bytes")]
    BodyTooLong(usize),
    /// A body that did not arrive in time, or not whole.
    #[error("the body did not arrive")]
    BodyLost,
    /// A body that is not JSON. Its text is not repeated: it may be a secret.
    #[error("the body is not JSON: the error is at line {line}, column {column}")]
    MalformedJson {
        /// From 1.
        line: usize,
        /// From 0, at the end of a body that breaks off.
        column: usize,
    },
    /// A body in which an object names a member twice: others may have read the other one.
    #[error("an object of the body has a member twice: see line {line}, column {column}")]
    DuplicateMember {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// A member, parameter or path that cannot be as it is.
    #[error("`{field}` {problem}")]
    Invalid {
        /// Its place.
        field: String,
        /// What is wrong with it. Never its value.
        problem: String,
    },
    /// The workspace refused.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

impl ApiError {
    /// A member, parameter or path that cannot be as it is.
    pub(super) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into() }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated | Self::WrongSecret => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::UnknownPath | Self::ForeignScope | Self::Unknown { .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoSecret
            | Self::NoFiles
            | Self::BodyLost
            | Self::MalformedJson { .. }
            | Self::DuplicateMember { .. }
            | Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Workspace(error) => workspace_status(error),
        }
    }

    /// The body, in the shape of Azure's model management service.
    pub(super) fn body(&self, request: Uuid) -> Value {
        let status = self.status();
        let details: Vec<Value> = self.detail().into_iter().collect();
        let mut body = json!({
            "code": code(status),
            "statusCode": status.as_u16(),
            "message": self.to_string(),
            "details": details,
            "correlation": { "RequestId": request.to_string() },
        });
        if matches!(self, Self::NoFiles) {
            // The clients of the run history service, whose route this answers, look here, and fail without details.
            body["error"] = json!({ "code": body["code"], "message": body["message"], "details": [] });
        }
        body
    }

    fn detail(&self) -> Option<Value> {
        let (field, problem) = match self {
            Self::Invalid { field, problem }
            | Self::Workspace(WorkspaceError::Invalid { field, problem }) => (field, problem),
            _ => return None,
        };
        Some(json!({ "code": "Invalid", "message": problem, "target": field }))
    }
}

fn workspace_status(error: &WorkspaceError) -> StatusCode {
    match error {
        WorkspaceError::UnknownService(_)
        | WorkspaceError::UnknownPrincipal(_)
        | WorkspaceError::UnknownOperation(_) => StatusCode::NOT_FOUND,
        WorkspaceError::ServiceExists(_)
        | WorkspaceError::PrincipalExists(_)
        | WorkspaceError::LastOwner(_)
        | WorkspaceError::NotInTokenMode { .. }
        | WorkspaceError::PlaceTaken { .. } => StatusCode::CONFLICT,
        WorkspaceError::AuthMode(_)
        | WorkspaceError::Key { .. }
        | WorkspaceError::EqualKeys(_)
        | WorkspaceError::Invalid { .. } => StatusCode::BAD_REQUEST,
        WorkspaceError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// `NotFound` for 404, and so on.
fn code(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or_default().split_whitespace().collect()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        if matches!(self, Self::Unauthenticated | Self::WrongSecret) {
            let challenge = HeaderValue::from_static(r#"Bearer realm="scoregate""#);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
