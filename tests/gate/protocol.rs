//! What goes wrong below the checks: bytes, frames, connections.

use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use scoregate::listen::ListenAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};

use crate::envoy::{self, Encoding, Envoy, request};
use crate::policy::{key, key_service};
use crate::rig::Rig;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const PATIENCE: Duration = Duration::from_secs(20);

async fn rig(data: &tempfile::TempDir) -> (Rig, crate::workspace::Workspace, crate::workspace::Session) {
    Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await
}

async fn assert_works(envoy: &mut Envoy) {
    assert_eq!(envoy.with("svc", &key("svc", "primary", 1)).await.outcome(), (200, "ok"));
}

/// Calls a method with a body of our own.
async fn call(
    address: &ListenAddress,
    method: &'static str,
    body: Vec<u8>,
) -> Result<Vec<u8>, tonic::Status> {
    let mut client = tonic::client::Grpc::new(envoy::connect(address).await);
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(method);
    client.unary(tonic::Request::new(body), path, bytes_codec::Bytes).await.map(tonic::Response::into_inner)
}

/// Sends bytes as they are.
mod bytes_codec {
    use prost::bytes::{Buf, BufMut};
    use tonic::Status;
    use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

    pub(super) struct Bytes;

    impl Codec for Bytes {
        type Encode = Vec<u8>;
        type Decode = Vec<u8>;
        type Encoder = Self;
        type Decoder = Self;

        fn encoder(&mut self) -> Self {
            Self
        }

        fn decoder(&mut self) -> Self {
            Self
        }
    }

    impl Encoder for Bytes {
        type Item = Vec<u8>;
        type Error = Status;

        fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
            buffer.put_slice(&item);
            Ok(())
        }
    }

    impl Decoder for Bytes {
        type Item = Vec<u8>;
        type Error = Status;

        fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
            Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
        }
    }
}

#[tokio::test]
async fn t010_bad_messages_harm_nobody() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = rig(&data).await;
    let mut envoy = rig.envoy().await;
    let refused = [Code::Internal, Code::OutOfRange, Code::ResourceExhausted];
    // A length that is not there, a wrong wire type, and a message greater than any.
    for body in [vec![0x0a, 0xff], vec![0x0f; 100], vec![0; 4 * 1024 * 1024 + 1]] {
        let status = call(&rig.tcp, CHECK, body).await.unwrap_err();
        assert!(refused.contains(&status.code()), "{status:?}");
        assert_works(&mut envoy).await;
    }
}

#[tokio::test]
async fn unknown_fields_are_skipped() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = rig(&data).await;
    // Field 99, of each wire type that has a value.
    let unknown =
        [&[0x98, 0x06, 0x01][..], &[0x9a, 0x06, 0x02, 0x01, 0x02], &[0x9d, 0x06, 1, 2, 3, 4]].concat();
    let answer = call(&rig.tcp, CHECK, unknown).await.unwrap();
    assert!(!answer.is_empty());
}

#[tokio::test]
async fn t008_great_header_maps_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = rig(&data).await;
    let mut envoy = rig.envoy().await;
    let value = "x".repeat(100);
    let names: Vec<_> = (0..10_000).map(|number| format!("x-header-{number}")).collect();
    let headers: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    let status = envoy.try_check(request(Encoding::Raw, "svc", &headers)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    let few = envoy.check(request(Encoding::Raw, "svc", &headers[..1_000])).await;
    assert_eq!(few.outcome(), (401, "missing_credential"));
}

#[tokio::test]
async fn t011_check_of_v2_is_unimplemented() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = rig(&data).await;
    for method in [
        "/envoy.service.auth.v2.Authorization/Check",
        "/envoy.service.auth.v3.Authorization/Chec",
        "/envoy.service.auth.v3.Authorization/Check/",
        "/envoy.service.auth.v3.authorization/check",
    ] {
        let status = call(&rig.tcp, method, Vec::new()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{method}");
    }
}

#[tokio::test]
async fn health_and_reflection_are_on_the_check_port() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = rig(&data).await;
    rig.wait_until_ready().await;
    let mut health = HealthClient::new(envoy::connect(&rig.unix).await);
    let asked = HealthCheckRequest { service: "envoy.service.auth.v3.Authorization".to_owned() };
    let status = health.check(asked).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::Serving);

    let mut reflection = ServerReflectionClient::new(envoy::connect(&rig.tcp).await);
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let asked = ServerReflectionRequest { host: String::new(), message_request };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::once(asked)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"envoy.service.auth.v3.Authorization".to_owned()), "{names:?}");
}

#[tokio::test]
async fn t014_garbage_and_silence_do_not_stop_the_listener() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = rig(&data).await;
    let ListenAddress::Tcp(address) = rig.tcp else { panic!() };
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for garbage in [&client_hello[..], b"GET / HTTP/1.1\r\nhost: x\r\n\r\n\r\n\r\n", &[0; 100]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut rest = Vec::new();
        // Closed, politely or not.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("still open");
    }
    assert_works(&mut rig.envoy().await).await;
    drop(silent);
}

/// HTTP/2 by hand, for what no library would send.
struct RawHttp2(TcpStream);

const DATA_END: (u8, u8) = (0x0, 0x1);
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

impl RawHttp2 {
    async fn connect(rig: &Rig) -> Self {
        let ListenAddress::Tcp(address) = rig.tcp else { panic!() };
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut this = Self(stream);
        this.send(frame(SETTINGS, 0, 0, &[])).await.unwrap();
        this
    }

    async fn send(&mut self, bytes: Vec<u8>) -> std::io::Result<()> {
        self.0.write_all(&bytes).await
    }

    /// Kind, stream and payload of the next frame; `None` where the connection is closed.
    async fn frame(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        timeout(PATIENCE, self.0.read_exact(&mut head)).await.expect("still open").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// Reads to the end of the connection.
    async fn is_closed(&mut self) -> bool {
        while let Some((kind, _, _)) = self.frame().await {
            if kind == GOAWAY {
                return true;
            }
        }
        true
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// HPACK without any compression.
fn header_block(path: &str) -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gate"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    headers.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

#[tokio::test]
async fn t012_path_without_a_slash_is_no_way_in() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = rig(&data).await;
    let mut raw = RawHttp2::connect(&rig).await;
    raw.send(frame(HEADERS, END_HEADERS, 1, &header_block(&CHECK[1..]))).await.unwrap();
    raw.send(frame(DATA_END.0, DATA_END.1, 1, &[0; 5])).await.unwrap();
    loop {
        match raw.frame().await {
            // An answer to the stream: it may only be one that says nothing of a decision.
            Some((HEADERS, 1, block)) => {
                let refused = !block.is_empty() && rig.metric("scoregate_decision_seconds_count") == 0.0;
                assert!(refused);
                break;
            }
            Some((RST_STREAM, 1, _) | (GOAWAY, ..)) | None => break,
            Some(_) => {}
        }
    }
    assert_eq!(rig.metric("scoregate_decision_seconds_count"), 0.0);
    assert_works(&mut rig.envoy().await).await;
}

#[tokio::test]
async fn t013_streams_are_limited_and_floods_end_their_own_connection_only() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = rig(&data).await;
    let mut envoy = rig.envoy().await;
    let mut raw = RawHttp2::connect(&rig).await;
    let Some((SETTINGS, 0, settings)) = raw.frame().await else { panic!("no settings") };
    let limit = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).map(|setting| &setting[2..]);
    assert_eq!(limit, Some(&2_048_u32.to_be_bytes()[..]), "the limit of streams is announced");

    // CVE-2023-44487: streams that are reset as soon as they are opened.
    let block = header_block(CHECK);
    let mut rapid = RawHttp2::connect(&rig).await;
    let flood: Vec<u8> = (0..40_000_u32)
        .flat_map(|number| {
            let stream = 2 * number + 1;
            let open = frame(HEADERS, END_HEADERS, stream, &block);
            [open, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        })
        .collect();
    // The gate may close before all is sent, or take it all: it must not hold on to it.
    let _ = timeout(PATIENCE, rapid.send(flood)).await.expect("the flood blocks");
    assert_works(&mut envoy).await;

    // A block of headers that never ends.
    let mut endless = RawHttp2::connect(&rig).await;
    endless.send(frame(HEADERS, 0, 1, &block)).await.unwrap();
    let filler = [vec![0, 1, b'a', 127, 0], vec![b'x'; 127]].concat().repeat(64);
    let piece = frame(CONTINUATION, 0, 1, &filler);
    for _ in 0..1_000 {
        if endless.send(piece.clone()).await.is_err() {
            break;
        }
    }
    assert!(endless.is_closed().await);
    assert_works(&mut envoy).await;
}

#[tokio::test]
async fn empty_request_over_a_unix_socket() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = rig(&data).await;
    let answer = Envoy::connect(&rig.unix).await.check(CheckRequest::default()).await;
    assert_eq!(answer.outcome(), (400, "no_http"));
}
