//! `GET /msi/token`: a session token for a credential, as a managed identity of Azure's App Service gives one.
//!
//! SDK v1 asks here when `MSI_ENDPOINT`, `MSI_SECRET` and `APPSETTING_WEBSITE_SITE_NAME` are set, with a slash at the end and
//! the header `secret`; `azure-identity` when `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` are, with `x-identity-header`. The
//! secret is a principal's credential. Where only `MSI_ENDPOINT` is set, SDK v1 sends a form, which proves nothing of who
//! asks: it is refused.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use hyper::ext::ReasonPhrase;
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::access::{Access, Caller, Endpoint};
use super::description::{Description, Group};
use super::error::ApiError;

const PATH: &str = "/msi/token";

/// Where the secret may be.
const SECRET_HEADERS: [&str; 2] = ["secret", "x-identity-header"];

pub(super) fn endpoints() -> [Endpoint; 3] {
    [
        Endpoint::new(MethodFilter::GET, PATH, Access::Secret, open, opening("openSession")),
        Endpoint::new(MethodFilter::GET, format!("{PATH}/"), Access::Secret, open, opening("openSessionV1")),
        Endpoint::new(MethodFilter::POST, PATH, Access::Secret, refuse, refusing()),
    ]
}

fn opening(id: &'static str) -> Description {
    Description::new(Group::Discovery, id, "Exchange a credential for a session token")
        .detail("As a managed identity of Azure's App Service gives one.")
        .query("resource", "For what: the workspace's base URL, or nothing.")
        .answer::<SessionObject>(StatusCode::OK, "A session token, of the principal's role.")
        .refusal(StatusCode::BAD_REQUEST, "No secret was sent, or another `resource` is asked for.")
        .refusal(
            StatusCode::UNAUTHORIZED,
            "The secret is not the credential of a principal who may have a session.",
        )
}

fn refusing() -> Description {
    Description::new(Group::Discovery, "refuseSession", "Be told which settings SDK v1 lacks")
        .refusal(StatusCode::BAD_REQUEST, "Always: a form proves nothing of who asks.")
}

/// A session token, in the words of managed identities.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
struct SessionObject<'a> {
    access_token: &'a str,
    token_type: &'static str,
    /// Seconds since 1970: a text in all versions of this interface.
    expires_on: String,
    resource: &'a str,
}

async fn open(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let secret = secret(&headers)?;
    check_resource(&api, &query.unwrap_or_default())?;
    let (principal, session) = api.workspace.open_session(secret)?.ok_or(ApiError::WrongSecret)?;
    let answer = SessionObject {
        access_token: session.token.expose_secret(),
        token_type: "Bearer",
        expires_on: session.expires_at.to_string(),
        resource: &api.urls.base,
    };
    let mut response = Json(answer).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(Caller(principal));
    Ok(response)
}

/// SDK v1 does not show the body of a refusal, but the reason beside the status.
async fn refuse() -> Response {
    let mut response = ApiError::NoSecret.into_response();
    let reason = ReasonPhrase::from_static(b"set MSI_SECRET, and APPSETTING_WEBSITE_SITE_NAME to anything");
    response.extensions_mut().insert(reason);
    response
}

/// The only one that was sent.
fn secret(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut values = SECRET_HEADERS.iter().flat_map(|name| headers.get_all(*name));
    match (values.next(), values.next()) {
        (Some(secret), None) => secret.to_str().map_err(|_| ApiError::WrongSecret),
        (None, _) => Err(ApiError::NoSecret),
        (Some(_), Some(_)) => Err(ApiError::WrongSecret),
    }
}

/// A token for another resource would be sent there: to Azure, by a client that was not told of this cloud.
fn check_resource(api: &Api, query: &str) -> Result<(), ApiError> {
    let base = api.urls.base.as_str();
    let mut resources = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "resource");
    if resources.all(|(_, resource)| resource.trim_end_matches('/').eq_ignore_ascii_case(base)) {
        return Ok(());
    }
    let problem = format!(
        "must be `{base}`: set ARM_CLOUD_METADATA_URL to `{base}/metadata/endpoints` and AZUREML_CURRENT_CLOUD to \
         `Scoregate` before azureml is imported"
    );
    Err(ApiError::invalid("resource", problem))
}
