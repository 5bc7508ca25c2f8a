//! One whole system for all tests that only look: `scoregate up`, an Envoy for each way to it, an upstream.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Answer, Envoy, EnvoyOptions, Request, Scoregate, Workspace, echo, new_path};

/// Routes to services that tests can make, each for itself.
const SERVICES: usize = 60;

/// The protocol between client and Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// A way from a client to the gate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) protocol: Protocol,
    pub(crate) envoy: &'static Envoy,
    /// For the messages of failing tests.
    pub(crate) name: &'static str,
}

impl Way {
    pub(crate) fn send(&self, request: &Request) -> Answer {
        let answer = match self.protocol {
            Protocol::Http1 => request.try_send(self.envoy.address).map_err(|error| error.to_string()),
            Protocol::Http2 => request.try_send_http2(self.envoy.address).map_err(|error| error.to_string()),
        };
        answer.unwrap_or_else(|error| {
            panic!("{}: {request:?}: {error}\n{}", self.name, self.envoy.complaints())
        })
    }

    /// Sends a request to a path of its own, and returns with the answer the reason of it, as the access log has it;
    /// empty where Envoy did not ask the gate.
    pub(crate) fn send_and_look(&self, request: &Request) -> (Answer, String) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let path = format!("{}-{}", request.target, NEXT.fetch_add(1, Ordering::Relaxed));
        let answer = self.send(&request.clone().target(&path));
        let reason = self.envoy.access_log(&path)["reason"].as_str().unwrap_or_default().to_owned();
        (answer, reason)
    }
}

/// The system.
pub(crate) struct System {
    pub(crate) up: Scoregate,
    pub(crate) data_dir: PathBuf,
    pub(crate) workspace: Workspace,
    next_service: AtomicUsize,
}

static SYSTEM: LazyLock<System> = LazyLock::new(|| {
    let (data_dir, socket) = (new_path("data"), new_path("check.sock"));
    let check_socket = format!("unix:{}", socket.display());
    let arguments = [
        ["--data-dir", data_dir.to_str().unwrap(), "--workspace-listen", "127.0.0.1:0"],
        ["--feed-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"],
        ["--ext-authz-listen", "127.0.0.1:0", "--ext-authz-listen", &check_socket],
        ["--scoring-base-url", "http://models.test", "--log-level", "debug"],
    ];
    let up = Scoregate::start("up", arguments.as_flattened(), &[]);
    let workspace = Workspace::of(&up.addresses, &data_dir);
    System { up, data_dir, workspace, next_service: AtomicUsize::new(0) }
});

static MODEL: LazyLock<SocketAddr> = LazyLock::new(echo::start);
static RAW_TCP: LazyLock<Envoy> = LazyLock::new(|| System::get().start_envoy(0, true));
static JOINED_TCP: LazyLock<Envoy> = LazyLock::new(|| System::get().start_envoy(0, false));
static RAW_UNIX: LazyLock<Envoy> = LazyLock::new(|| System::get().start_envoy(1, true));
static JOINED_UNIX: LazyLock<Envoy> = LazyLock::new(|| System::get().start_envoy(1, false));

impl System {
    pub(crate) fn get() -> &'static Self {
        &SYSTEM
    }

    /// The model server of all Envoys.
    pub(crate) fn model() -> SocketAddr {
        *MODEL
    }

    /// Every way there is: raw and joined headers, TCP and Unix socket, HTTP/1.1 and HTTP/2.
    pub(crate) fn ways() -> [Way; 8] {
        [
            Self::way(),
            way(Protocol::Http2, &RAW_TCP, "HTTP/2, raw headers, TCP"),
            way(Protocol::Http1, &JOINED_TCP, "HTTP/1.1, joined headers, TCP"),
            way(Protocol::Http2, &JOINED_TCP, "HTTP/2, joined headers, TCP"),
            way(Protocol::Http1, &RAW_UNIX, "HTTP/1.1, raw headers, Unix socket"),
            way(Protocol::Http2, &RAW_UNIX, "HTTP/2, raw headers, Unix socket"),
            way(Protocol::Http1, &JOINED_UNIX, "HTTP/1.1, joined headers, Unix socket"),
            way(Protocol::Http2, &JOINED_UNIX, "HTTP/2, joined headers, Unix socket"),
        ]
    }

    /// The way that is shipped: HTTP/1.1 with raw headers over TCP.
    pub(crate) fn way() -> Way {
        way(Protocol::Http1, &RAW_TCP, "HTTP/1.1, raw headers, TCP")
    }

    /// A name that has a route everywhere and that no other test uses.
    pub(crate) fn new_service(&self) -> String {
        let number = self.next_service.fetch_add(1, Ordering::Relaxed);
        assert!(number < SERVICES, "there are only {SERVICES} routes");
        service_name(number)
    }

    /// Options of an Envoy that asks a check port of `up`, the first or the second.
    pub(crate) fn envoy_options(&self, check_port: usize) -> EnvoyOptions {
        let gate = self.up.addresses.json()["ext_authz_all"][check_port].as_str().unwrap();
        let options = EnvoyOptions::new(gate, Self::model());
        EnvoyOptions { services: (0..SERVICES).map(service_name).collect(), ..options }
    }

    fn start_envoy(&self, check_port: usize, raw_headers: bool) -> Envoy {
        Envoy::start(&EnvoyOptions { raw_headers, ..self.envoy_options(check_port) })
    }
}

fn way(protocol: Protocol, envoy: &'static Envoy, name: &'static str) -> Way {
    Way { protocol, envoy, name }
}

fn service_name(number: usize) -> String {
    format!("service-{number:02}")
}
