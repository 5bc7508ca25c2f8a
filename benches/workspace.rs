//! A workspace as a process of its own, and what a client says to it.

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use scoregate::clock::SystemClock;
use scoregate::config::{self, DataDir, Sources, write_secret};
use scoregate::metrics::Metrics;
use scoregate::workspace::{AuthFlags, NewService, Origin, Role, Workspace};
use scoregate_authz::{ComputeType, PlainKey};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Services made in one commit.
const BATCH: usize = 10_000;
/// In a workspace's data directory: the credential of a gate principal.
const GATE_CREDENTIAL: &str = "gate-credential";

pub(crate) type Failure = Box<dyn Error + Send + Sync>;
pub(crate) type Outcome<T> = Result<T, Failure>;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_scoregate");

/// A process that ends with this.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// What it wrote to the file when it was ready.
    pub(crate) async fn addresses(&mut self, file: &PathBuf) -> Outcome<Value> {
        loop {
            if let Ok(text) = std::fs::read(file) {
                return Ok(serde_json::from_slice(&text)?);
            }
            if let Some(status) = self.0.try_wait()? {
                return Err(format!("a process ended: {status}").into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A field of `/proc/PID/status` in KiB, as bytes (proc(5)).
    pub(crate) fn memory(&self, field: &str) -> Outcome<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib: f64 = line.ok_or("no such field")?.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) services: usize,
    pub(crate) address: String,
    /// Of the workspace, below the address.
    pub(crate) path: String,
    pub(crate) feed: String,
    pub(crate) credential: String,
    pub(crate) data_dir: PathBuf,
}

impl Running {
    pub(crate) async fn start(data_dir: &Path, services: impl Iterator<Item = NewService>) -> Outcome<Self> {
        let services: Vec<_> = services.collect();
        let count = services.len();
        let credential = make(data_dir, services).await?;
        let ready = data_dir.join("addresses.json");
        let process = Command::new(BINARY)
            .args(["workspace", "--workspace-listen", "127.0.0.1:0", "--feed-listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .arg("--addresses-file")
            .arg(&ready)
            .stdout(Stdio::null())
            .stderr(File::create(data_dir.join("log"))?)
            .spawn()?;
        let mut process = Process(process);
        let addresses = process.addresses(&ready).await?;
        let text = |name: &str| addresses[name].as_str().ok_or("an address is missing");
        Ok(Self {
            services: count,
            address: text("workspace")?.strip_prefix("http://").ok_or("no http")?.to_owned(),
            path: format!("/modelmanagement/v1.0{}", text("workspace_scope")?),
            feed: text("feed")?.to_owned(),
            credential,
            data_dir: data_dir.to_owned(),
            process,
        })
    }

    /// The three files that a gate needs: its credential, the pepper, and the public policy key.
    pub(crate) fn gate_files(&self) -> [PathBuf; 3] {
        [GATE_CREDENTIAL, "pepper", "policy-key.pub"].map(|name| self.data_dir.join(name))
    }

    pub(crate) async fn connect(&self) -> Outcome<Connection> {
        Connection::open(&self.address).await
    }

    pub(crate) async fn get(&self, path: &str) -> Outcome<Vec<u8>> {
        self.connect().await?.call("GET", path, &self.credential, "").await
    }

    /// Replaces the secondary key of a service; returns when every gate enforces it.
    pub(crate) async fn regenerate(&self, connection: &mut Connection, service: &str) -> Outcome<()> {
        let path = format!("{}/services/{service}/regenerateKeys", self.path);
        let body = r#"{"keyType":"Secondary"}"#;
        let answer = connection.call("POST", &path, &self.credential, body).await?;
        let mut operation: Value = serde_json::from_slice(&answer)?;
        let id = operation["id"].as_str().ok_or("no operation")?.to_owned();
        while operation["state"] == "Running" {
            let path = format!("{}/operations/{id}", self.path);
            operation = serde_json::from_slice(&connection.call("GET", &path, &self.credential, "").await?)?;
        }
        if operation["state"] == "Succeeded" { Ok(()) } else { Err(operation.to_string().into()) }
    }
}

/// Makes a workspace with services in a directory; returns its owner's credential.
async fn make(data_dir: &Path, services: Vec<NewService>) -> Outcome<String> {
    let sources = Sources::default();
    let locked = DataDir::lock(data_dir)?;
    let config = config::workspace(&sources.read()?, &sources, &locked)?;
    let workspace = Workspace::open(&config, Arc::new(SystemClock), &Metrics::default()).await?;
    let owner = workspace.ensure_owner().await?.ok_or("there is an owner already")?;
    let (_, gate) = workspace.create_principal(&Origin::local(), "gates", Role::Gate).await?;
    write_secret(&data_dir.join(GATE_CREDENTIAL), gate.expose_secret())?;
    for batch in services.chunks(BATCH) {
        workspace.create_services(&Origin::local(), batch.to_vec()).await?;
    }
    Ok(owner.expose_secret().to_owned())
}

pub(crate) fn name(number: usize) -> String {
    format!("service-{number:06}")
}

/// The primary key of a service in key mode.
pub(crate) fn key(number: usize) -> String {
    format!("primary-key-of-service-{number:06}")
}

/// A service in key mode with a primary key that is known.
pub(crate) fn service(number: usize) -> Outcome<NewService> {
    Ok(NewService {
        name: name(number).parse()?,
        compute_type: ComputeType::Aks,
        auth: AuthFlags { key: Some(true), token: Some(false) },
        keys: (Some(PlainKey::choose(&key(number))?), None),
        description: None,
        tags: [("team".to_owned(), "forecasting".to_owned())].into(),
        properties: [].into(),
        hosts: Vec::new(),
        path_prefixes: Vec::new(),
        shadow_for: None,
        attributes: serde_json::Map::new(),
    })
}

/// A connection that is kept alive. The least that speaks HTTP/1.1, so that the machine is left to the workspace.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// One request; the body of its answer, which must be a success.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        credential: &str,
        body: &str,
    ) -> Outcome<Vec<u8>> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {credential}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let (head, length) = loop {
            self.more().await?;
            if let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break (head + 4, content_length(&self.buffer[..head])?);
            }
        };
        while self.buffer.len() < head + length {
            self.more().await?;
        }
        Ok(self.buffer[head..].to_vec())
    }

    async fn more(&mut self) -> Outcome<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err("the workspace closed the connection".into());
        }
        Ok(())
    }
}

fn content_length(head: &[u8]) -> Outcome<usize> {
    let head = std::str::from_utf8(head)?;
    if !head.starts_with("HTTP/1.1 2") {
        return Err(format!("refused: {head}").into());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    Ok(length.ok_or("no content-length")?.parse()?)
}
