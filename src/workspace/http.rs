//! The workspace's REST: the paths and shapes that Azure ML's clients expect, and a few of our own for the CLI.
//!
//! One endpoint, one file: route, description, handler. Every route is in [`endpoints`], behind the guard of its
//! [`Access`], and in the document of [`openapi()`].

mod access;
mod artifacts;
mod attributes;
mod audit;
mod body;
mod compute;
mod description;
mod discovery;
mod error;
mod gates;
mod json_patch;
mod jwks;
mod members;
mod model_id;
mod models;
mod observe;
mod online_endpoints;
mod openapi;
mod openid;
mod operation;
mod origin;
mod page_size;
mod principals;
mod resource_manager;
mod service_object;
mod service_request;
mod services;
mod session;
mod signing_keys;
mod urls;
mod workspace;

use std::sync::Arc;

use axum::{Router, middleware};

use access::Endpoint;
use error::ApiError;

pub use crate::http_server::serve;
pub use access::{Access, Route};
pub use openapi::openapi;
pub use urls::PublicUrls;

use crate::workspace::Workspace;

/// What every endpoint has at hand.
#[derive(Clone)]
struct Api {
    workspace: Workspace,
    urls: Arc<PublicUrls>,
}

impl Api {
    /// The URL of this workspace, to which `/services` and the like are appended.
    fn workspace_url(&self) -> String {
        self.urls.workspace(self.workspace.scope())
    }

    /// The URL of this workspace as a resource of Azure's, to which `/onlineEndpoints` and the like are appended.
    fn resource_url(&self) -> String {
        self.urls.resource(self.workspace.scope())
    }
}

/// The REST of a workspace.
pub fn router(workspace: Workspace, urls: PublicUrls) -> Router {
    let api = Api { workspace, urls: Arc::new(urls) };
    endpoints()
        .into_iter()
        .fold(Router::new(), |router, endpoint| endpoint.add_to(router, &api))
        .fallback(async || ApiError::UnknownPath)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(middleware::from_fn(observe::observe))
        .with_state(api)
}

/// The table of all routes.
#[must_use]
pub fn routes() -> Vec<Route> {
    endpoints().into_iter().map(|endpoint| endpoint.route).collect()
}

fn endpoints() -> Vec<Endpoint> {
    let mut endpoints = vec![
        jwks::endpoint(),
        openid::endpoint(),
        openapi::endpoint(),
        workspace::endpoint(),
        operation::endpoint(),
        artifacts::endpoint(),
        audit::endpoint(),
        compute::endpoint(),
        gates::endpoint(),
    ];
    endpoints.extend(discovery::endpoints());
    endpoints.extend(resource_manager::endpoints());
    endpoints.extend(session::endpoints());
    endpoints.extend(models::endpoints());
    endpoints.extend(services::endpoints());
    endpoints.extend(online_endpoints::endpoints());
    endpoints.extend(principals::endpoints());
    endpoints.extend(signing_keys::endpoints());
    endpoints
}
