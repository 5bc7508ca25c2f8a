//! From where a change comes, for the audit.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::Api;
use super::access::Caller;
use super::error::ApiError;
use super::observe::RequestId;
use crate::listen::Peer;
use crate::workspace::Origin;

/// A handler that takes it can only stand behind a guard.
///
/// The address is that of the connection. `Forwarded`, `X-Forwarded-For` and the like are not read: any client can send
/// them, and an audit that repeats what it was told proves nothing. Behind a proxy the address is the proxy's, and the
/// request's id leads to the client in the proxy's own log.
impl FromRequestParts<Api> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let Parts { extensions, .. } = parts;
        let Caller(principal) = extensions.get().ok_or(ApiError::Unauthenticated)?;
        let RequestId(id) = extensions.get().ok_or(ApiError::Unauthenticated)?;
        let peer: &Peer = extensions.get().ok_or(ApiError::Unauthenticated)?;
        Ok(Self::of_request(principal, *peer, *id))
    }
}
