//! What Envoy does at the check port, with messages encoded by `envoy-types`.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request as InnerRequest};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use hyper_util::rt::TokioIo;
use scoregate::listen::ListenAddress;
use tokio::net::{TcpStream, UnixStream};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

pub(crate) async fn connect(address: &ListenAddress) -> Channel {
    let endpoint = Endpoint::from_static("http://gate");
    match address.clone() {
        ListenAddress::Tcp(address) => {
            let connect = move |_| async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true).map(|()| TokioIo::new(stream))
            };
            endpoint.connect_with_connector(tower::service_fn(connect)).await.unwrap()
        }
        ListenAddress::Unix(path) => {
            let connect = move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            };
            endpoint.connect_with_connector(tower::service_fn(connect)).await.unwrap()
        }
    }
}

/// The two ways in which Envoy sends headers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Encoding {
    /// `encode_raw_headers: false`.
    Joined,
    /// `encode_raw_headers: true`.
    Raw,
}

pub(crate) fn request(encoding: Encoding, service: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let mut http = HttpRequest {
        id: "1".to_owned(),
        method: "POST".to_owned(),
        path: "/score".to_owned(),
        host: "ignored.example.com".to_owned(),
        ..HttpRequest::default()
    };
    match encoding {
        Encoding::Joined => {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            http.headers = headers.iter().map(owned).collect();
        }
        Encoding::Raw => {
            let raw = |(name, value): &(&str, &str)| HeaderValue {
                key: (*name).to_owned(),
                raw_value: value.as_bytes().to_vec(),
                ..HeaderValue::default()
            };
            http.header_map = Some(HeaderMap { headers: headers.iter().map(raw).collect() });
        }
    }
    with_http(Some(http), service)
}

pub(crate) fn with_http(http: Option<HttpRequest>, service: &str) -> CheckRequest {
    let request = InnerRequest { http, ..InnerRequest::default() };
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(request),
            context_extensions: HashMap::from([("service".to_owned(), service.to_owned())]),
            ..AttributeContext::default()
        }),
    }
}

pub(crate) fn with_bearer(service: &str, credential: &str) -> CheckRequest {
    request(Encoding::Raw, service, &[("authorization", &format!("Bearer {credential}"))])
}

pub(crate) struct Envoy(AuthorizationClient<Channel>);

impl Envoy {
    pub(crate) async fn connect(address: &ListenAddress) -> Self {
        Self(AuthorizationClient::new(connect(address).await))
    }

    pub(crate) async fn try_check(&mut self, request: CheckRequest) -> Result<Answer, Status> {
        self.0.check(request).await.map(|response| Answer::of(response.into_inner()))
    }

    pub(crate) async fn check(&mut self, request: CheckRequest) -> Answer {
        self.try_check(request).await.unwrap()
    }

    /// What a caller with this credential gets.
    pub(crate) async fn with(&mut self, service: &str, credential: &str) -> Answer {
        self.check(with_bearer(service, credential)).await
    }
}

/// An answer, as far as tests look at it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// 200 for an allow.
    pub(crate) http: i32,
    pub(crate) reason: String,
    /// Headers that are set, on the request or on the response.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) removed: Vec<String>,
    pub(crate) body: String,
}

impl Answer {
    fn of(response: CheckResponse) -> Self {
        let code = response.status.unwrap().code;
        let metadata = response.dynamic_metadata.unwrap();
        let reason = metadata.fields["reason"].kind.clone().unwrap();
        let envoy_types::pb::google::protobuf::value::Kind::StringValue(reason) = reason else {
            panic!("the reason is no text")
        };
        let pairs = |options: Vec<HeaderValueOption>| {
            options.into_iter().filter_map(|option| option.header).map(|header| (header.key, header.value))
        };
        match response.http_response.unwrap() {
            HttpResponse::OkResponse(ok) => {
                assert_eq!(code, 0);
                let headers = pairs(ok.headers).collect();
                Self { http: 200, reason, headers, removed: ok.headers_to_remove, body: String::new() }
            }
            HttpResponse::DeniedResponse(denied) => {
                assert_ne!(code, 0);
                let http = denied.status.unwrap().code;
                let headers = pairs(denied.headers).collect();
                Self { http, reason, headers, removed: Vec::new(), body: denied.body }
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn outcome(&self) -> (i32, &str) {
        (self.http, &self.reason)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
