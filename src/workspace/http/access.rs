//! Who may use which route. Denied by default: a route is an [`Endpoint`], and an endpoint has an [`Access`].

use axum::Router;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::Api;
use super::description::Description;
use super::error::ApiError;
use super::urls::{RESOURCE_PATH, WORKSPACE_PATH};
use crate::config::WorkspaceScope;
use crate::workspace::{Principal, Role, Workspace};

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Anonymous,
    /// The credential of a principal whose role includes this one.
    Role(Role),
    /// The credential of a principal, where Azure's clients put the secret of a managed identity. The handler looks at it.
    Secret,
}

/// A route of the REST, as its table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path; parameters are in braces.
    pub path: String,
    /// Who may use it.
    pub access: Access,
}

/// A route, what OpenAPI says of it, and what happens there.
pub(super) struct Endpoint {
    pub(super) route: Route,
    pub(super) description: Description,
    handler: MethodRouter<Api>,
}

impl Endpoint {
    /// An endpoint anywhere.
    pub(super) fn new<H, T>(
        method: MethodFilter,
        path: impl Into<String>,
        access: Access,
        handler: H,
        description: Description,
    ) -> Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        let route = Route { method: only_method(method), path: path.into(), access };
        Self { route, description, handler: on(method, handler) }
    }

    /// An endpoint of the workspace's own path.
    pub(super) fn in_workspace<H, T>(
        method: MethodFilter,
        path: &str,
        needed: Role,
        handler: H,
        description: Description,
    ) -> Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        Self::new(method, format!("{WORKSPACE_PATH}{path}"), Access::Role(needed), handler, description)
    }

    /// An endpoint of the workspace's place in Azure's tree of resources.
    pub(super) fn in_resource<H, T>(
        method: MethodFilter,
        path: &str,
        needed: Role,
        handler: H,
        description: Description,
    ) -> Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        Self::new(method, format!("{RESOURCE_PATH}{path}"), Access::Role(needed), handler, description)
    }

    /// Adds it to a router, behind its guard.
    pub(super) fn add_to(self, router: Router<Api>, api: &Api) -> Router<Api> {
        let handler = match self.route.access {
            Access::Anonymous | Access::Secret => self.handler,
            Access::Role(needed) => {
                let guard = Guard { api: api.clone(), needed };
                self.handler.route_layer(middleware::from_fn_with_state(guard, guard_request))
            }
        };
        router.route(&self.route.path, handler)
    }
}

/// The one method of a filter: endpoints never have more.
fn only_method(filter: MethodFilter) -> Method {
    match filter {
        MethodFilter::POST => Method::POST,
        MethodFilter::PUT => Method::PUT,
        MethodFilter::PATCH => Method::PATCH,
        MethodFilter::DELETE => Method::DELETE,
        _ => Method::GET,
    }
}

/// Whose credential a request carries. A handler that takes it can only stand behind a guard.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) Principal);

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or(ApiError::Unauthenticated)
    }
}

#[derive(Clone)]
struct Guard {
    api: Api,
    needed: Role,
}

/// First who it is, then whether they may, and only then whether what they ask for exists.
async fn guard_request(
    State(Guard { api, needed }): State<Guard>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = Caller(authenticate(&api.workspace, request.headers())?);
    let mut response = match authorize(&caller.0, needed) {
        Ok(()) => {
            request.extensions_mut().insert(caller.clone());
            let (mut parts, body) = request.into_parts();
            check_scope(&mut parts, api.workspace.scope()).await?;
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => axum::response::IntoResponse::into_response(error),
    };
    // What is behind a credential, and keys and tokens above all, is not for caches.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(caller);
    Ok(response)
}

fn authenticate(workspace: &Workspace, headers: &HeaderMap) -> Result<Principal, ApiError> {
    let bearer = bearer(headers).ok_or(ApiError::Unauthenticated)?;
    workspace.authenticate_client(bearer).ok_or(ApiError::Unauthenticated)
}

/// The bearer credential of the only `Authorization` header (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, credential) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(credential)
}

fn authorize(principal: &Principal, needed: Role) -> Result<(), ApiError> {
    if principal.role.includes(needed) {
        return Ok(());
    }
    Err(ApiError::Forbidden { needed, name: principal.name.clone(), has: principal.role })
}

/// Azure's names of resources are the same in any letter case.
async fn check_scope(parts: &mut Parts, scope: &WorkspaceScope) -> Result<(), ApiError> {
    let params = RawPathParams::from_request_parts(parts, &()).await.map_err(|_| ApiError::UnknownPath)?;
    let is_ours = params.iter().all(|(name, value)| match name {
        "subscription" => value.eq_ignore_ascii_case(&scope.subscription),
        "resource_group" => value.eq_ignore_ascii_case(&scope.resource_group),
        "workspace" => value.eq_ignore_ascii_case(&scope.name),
        _ => true,
    });
    if is_ours { Ok(()) } else { Err(ApiError::ForeignScope) }
}

/// The parameter `{name}` of a route.
pub(super) struct Name(pub(super) String);

impl FromRequestParts<Api> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let params =
            RawPathParams::from_request_parts(parts, api).await.map_err(|_| ApiError::UnknownPath)?;
        let name = params.iter().find(|(name, _)| *name == "name").map(|(_, value)| value.to_owned());
        name.map(Self).ok_or(ApiError::UnknownPath)
    }
}
