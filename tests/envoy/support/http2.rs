//! HTTP/2 with prior knowledge.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderValue};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{Answer, Request, block_on};

impl Request {
    /// Sends it in HTTP/2, on a connection of its own.
    pub(crate) fn send_http2(&self, to: SocketAddr) -> Answer {
        self.try_send_http2(to).unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.target))
    }

    /// An error where the other side resets the stream or closes the connection.
    pub(crate) fn try_send_http2(&self, to: SocketAddr) -> Result<Answer, hyper::Error> {
        block_on(async {
            let stream = TcpStream::connect(to).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut client, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            let connection = tokio::spawn(connection);
            let answer = client.send_request(self.http2()).await?;
            let (parts, body) = answer.into_parts();
            let body = body.collect().await?;
            let mut headers = listed(&parts.headers);
            headers.extend(body.trailers().map(listed).unwrap_or_default());
            connection.abort();
            Ok(Answer { status: parts.status.as_u16(), headers, body: body.to_bytes().to_vec() })
        })
    }

    fn http2(&self) -> hyper::Request<Full<Bytes>> {
        let uri = hyper::Uri::builder().scheme("http").authority(self.host.as_str());
        let uri = uri.path_and_query(self.target.as_str()).build().unwrap();
        let mut request = hyper::Request::builder().method(self.method.as_str()).uri(uri);
        for (name, value) in &self.headers {
            request = request.header(name.to_ascii_lowercase(), HeaderValue::from_bytes(value).unwrap());
        }
        request.body(Full::from(self.body.clone().unwrap_or_default())).unwrap()
    }
}

fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
