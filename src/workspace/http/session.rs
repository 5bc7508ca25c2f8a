//! `GET /msi/token`: a session token for a credential, as a managed identity of Azure's App Service gives one.
//!
//! Azure's clients ask here when `MSI_ENDPOINT` and `MSI_SECRET` are set (SDK v1, which appends a slash and sends the
//! header `secret`), or `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` (`azure-identity`, `x-identity-header`). The secret is a
//! principal's credential. Without a secret they send a form, which proves nothing of who asks: it is refused.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use secrecy::ExposeSecret;
use serde_json::json;

use super::Api;
use super::access::{Access, Caller, Endpoint};
use super::error::ApiError;

const PATH: &str = "/msi/token";

/// Where the secret may be.
const SECRET_HEADERS: [&str; 2] = ["secret", "x-identity-header"];

pub(super) fn endpoints() -> [Endpoint; 3] {
    [
        Endpoint::new(MethodFilter::GET, PATH, Access::Secret, open),
        Endpoint::new(MethodFilter::GET, format!("{PATH}/"), Access::Secret, open),
        Endpoint::new(MethodFilter::POST, PATH, Access::Secret, async || ApiError::NoSecret),
    ]
}

async fn open(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let secret = secret(&headers)?;
    check_resource(&api, &query.unwrap_or_default())?;
    let (principal, session) = api.workspace.open_session(secret)?.ok_or(ApiError::WrongSecret)?;
    let answer = json!({
        "access_token": session.token.expose_secret(),
        "token_type": "Bearer",
        // A text in all versions of this interface, and seconds in the later ones.
        "expires_on": session.expires_at.to_string(),
        "resource": api.urls.base,
    });
    let mut response = Json(answer).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(Caller(principal));
    Ok(response)
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
