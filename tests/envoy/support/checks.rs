//! Asks a gate as Envoy does, without Envoy between.

use std::collections::HashMap;

use scoregate::proto::envoy::config::core::v3::{HeaderMap, HeaderValue};
use scoregate::proto::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use scoregate::proto::envoy::service::auth::v3::{AttributeContext, CheckRequest, attribute_context};
use tonic::transport::{Channel, Endpoint};

use super::block_on;

/// A connection to a check port on TCP.
#[derive(Debug, Clone)]
pub(crate) struct Checks(AuthorizationClient<Channel>);

impl Checks {
    pub(crate) fn connect(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self(AuthorizationClient::new(block_on(async { endpoint.connect().await.unwrap() })))
    }

    /// The HTTP status that the client of such a request would get; 200 where it may score.
    pub(crate) fn status(&self, service: &str, credential: &str) -> i32 {
        block_on(self.clone().ask(service, credential)).unwrap()
    }

    /// The same for a step that does several things at once.
    ///
    /// # Errors
    /// The gate gives no answer.
    pub(crate) async fn ask(mut self, service: &str, credential: &str) -> Result<i32, tonic::Status> {
        use scoregate::proto::envoy::service::auth::v3::check_response::HttpResponse;
        let answer = self.0.check(Self::request(service, credential)).await?.into_inner();
        let code = answer.status.unwrap().code;
        let status = match answer.http_response.unwrap() {
            HttpResponse::OkResponse(_) => 200,
            HttpResponse::DeniedResponse(refusal) | HttpResponse::ErrorResponse(refusal) => {
                refusal.status.unwrap().code
            }
        };
        assert_eq!(code == 0, status == 200, "code {code} and status {status}");
        Ok(status)
    }

    /// What Envoy would ask about a scoring request.
    pub(crate) fn request(service: &str, credential: &str) -> CheckRequest {
        let authorization = HeaderValue {
            key: "authorization".to_owned(),
            raw_value: format!("Bearer {credential}").into_bytes(),
            ..HeaderValue::default()
        };
        let http = attribute_context::HttpRequest {
            method: "POST".to_owned(),
            path: format!("/api/v1/service/{service}/score"),
            host: "models.test".to_owned(),
            header_map: Some(HeaderMap { headers: vec![authorization] }),
            ..attribute_context::HttpRequest::default()
        };
        let context_extensions = HashMap::from([("service".to_owned(), service.to_owned())]);
        let request = Some(attribute_context::Request { http: Some(http) });
        CheckRequest { attributes: Some(AttributeContext { request, context_extensions }) }
    }
}
