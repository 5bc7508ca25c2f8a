//! The model server of the tests: answers with the request as it arrived.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use super::{Answer, block_on, spawn};

/// A request as the model server saw it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

impl Seen {
    /// What an answer says that the model server saw.
    ///
    /// # Panics
    /// The answer is not the model server's.
    pub(crate) fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// All identity headers, and what may pass for one, sorted.
    pub(crate) fn identity(&self) -> Vec<String> {
        let ours = self.headers.iter().filter(|(name, _)| name.replace('_', "-").starts_with("x-scoregate"));
        let mut ours: Vec<_> = ours.map(|(name, value)| format!("{name}: {value}")).collect();
        ours.sort_unstable();
        ours
    }

    /// Whether any header holds this text.
    pub(crate) fn holds(&self, text: &str) -> bool {
        self.headers.iter().any(|(_, value)| value.contains(text))
    }
}

/// Starts one.
pub(super) fn start() -> SocketAddr {
    let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            spawn(serve(stream));
        }
    });
    address
}

async fn serve(stream: TcpStream) {
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    // A proxy that closes the connection is no news.
    let _ = connection.with_upgrades().await;
}

async fn answer(request: hyper::Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Some(protocol) = request.headers().get(UPGRADE).cloned() {
        spawn(echo_bytes(request));
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let response = response.header(UPGRADE, protocol).header(CONNECTION, "upgrade");
        return Ok(response.body(Full::default()).unwrap());
    }
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let seen = Seen { method: request.method().to_string(), path: request.uri().to_string(), headers };
    Ok(Response::new(Full::from(serde_json::to_vec(&seen).unwrap())))
}

async fn echo_bytes(request: hyper::Request<Incoming>) {
    if let Ok(upgraded) = hyper::upgrade::on(request).await {
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    }
}
