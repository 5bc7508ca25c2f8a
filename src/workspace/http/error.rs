//! What a client is told when it is refused.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::urls::is_resource;
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
        "a session token is given for the credential of a principal: set MSI_SECRET to it, and \
         APPSETTING_WEBSITE_SITE_NAME to anything (or IDENTITY_HEADER to it)"
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

/// The shape in which a client reads what went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// That of Azure's model management service.
    ModelManagement,
    /// That of Azure's Resource Manager.
    ResourceManager,
}

impl Dialect {
    pub(super) const ALL: [Self; 2] = [Self::ModelManagement, Self::ResourceManager];

    /// That of the clients who ask for this path.
    pub(super) fn of(path: &str) -> Self {
        if is_resource(path) { Self::ResourceManager } else { Self::ModelManagement }
    }
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

    /// The body that tells a client.
    pub(super) fn body(&self, dialect: Dialect, request: Uuid) -> ErrorBody {
        match dialect {
            Dialect::ModelManagement => ErrorBody::ModelManagement(self.model_management_body(request)),
            Dialect::ResourceManager => ErrorBody::ResourceManager(self.resource_manager_body()),
        }
    }

    fn resource_manager_body(&self) -> ResourceError {
        let detail = self.detail();
        let target = detail.as_ref().map(|detail| detail.target.clone());
        let details = detail.into_iter().collect();
        let error =
            ResourceErrorDetail { code: code(self.status()), message: self.to_string(), target, details };
        ResourceError { error }
    }

    fn model_management_body(&self, request: Uuid) -> Error {
        let status = self.status();
        let (code, message) = (code(status), self.to_string());
        // The clients of the run history service, whose route this answers, look there.
        let error = matches!(self, Self::NoFiles).then(|| NestedError {
            code: code.clone(),
            message: message.clone(),
            details: [],
        });
        Error {
            code,
            status_code: status.as_u16(),
            message,
            details: self.detail().into_iter().collect(),
            correlation: Correlation { request_id: request.to_string() },
            error,
        }
    }

    fn detail(&self) -> Option<ErrorDetail> {
        let (field, problem) = match self {
            Self::Invalid { field, problem }
            | Self::Workspace(WorkspaceError::Invalid { field, problem }) => (field, problem),
            _ => return None,
        };
        Some(ErrorDetail { code: "Invalid", message: problem.clone(), target: field.clone() })
    }
}

/// Why a request was refused, in the client's dialect.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum ErrorBody {
    ModelManagement(Error),
    ResourceManager(ResourceError),
}

/// Why a request was refused. Nothing was changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResourceError {
    error: ResourceErrorDetail,
}

/// What Resource Manager's clients read.
#[derive(Debug, Serialize, ToSchema)]
struct ResourceErrorDetail {
    /// The status in words, such as `NotFound`.
    code: String,
    /// For people.
    message: String,
    /// The member or parameter that cannot be as it is.
    #[schema(required)]
    target: Option<String>,
    details: Vec<ErrorDetail>,
}

/// Why a request was refused. Nothing was changed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Error {
    /// The status in words, such as `NotFound`.
    code: String,
    /// The status.
    status_code: u16,
    /// For people.
    message: String,
    /// What in the request cannot be as it is.
    details: Vec<ErrorDetail>,
    correlation: Correlation,
    /// The same again, for clients of the run history service only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<NestedError>,
}

/// A part of the request that cannot be as it is.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// `Invalid`.
    code: &'static str,
    /// What is wrong with it. Never its value.
    message: String,
    /// The member or parameter.
    target: String,
}

/// What finds the request in the workspace's log.
#[derive(Debug, Serialize, ToSchema)]
struct Correlation {
    /// The `x-request-id` of the answer.
    #[serde(rename = "RequestId")]
    request_id: String,
}

/// An error as the run history service writes one; its clients fail where there are no details.
#[derive(Debug, Serialize, ToSchema)]
struct NestedError {
    code: String,
    message: String,
    #[schema(value_type = Vec<ErrorDetail>)]
    details: [ErrorDetail; 0],
}

fn workspace_status(error: &WorkspaceError) -> StatusCode {
    match error {
        WorkspaceError::UnknownService(_)
        | WorkspaceError::UnknownPrincipal(_)
        | WorkspaceError::UnknownSigningKey(_)
        | WorkspaceError::UnknownOperation(_) => StatusCode::NOT_FOUND,
        WorkspaceError::PrincipalGone(_) => StatusCode::UNAUTHORIZED,
        WorkspaceError::ServiceExists(_)
        | WorkspaceError::StaleKey { .. }
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
        if self.status() == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static(r#"Bearer realm="scoregate""#);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
