//! Listening on TCP and on Unix sockets, as one thing.

use std::fmt;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use scoregate_authz::{PortRule, canonical_host};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::shutdown::Shutdown;
use crate::tls::ServerTls;

/// Where to listen: `address:port` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an `address:port` such as `127.0.0.1:9191` nor a `unix:PATH`")]
pub struct InvalidListenAddress(String);

impl ListenAddress {
    /// Whether only this machine can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, InvalidListenAddress> {
        let invalid = || InvalidListenAddress(text.to_owned());
        match text.strip_prefix("unix:") {
            Some("") => Err(invalid()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| invalid()),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where to connect to: `host:port`, looked up anew for each connection, or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAddress {
    /// A host name or IP address, and a port.
    Tcp {
        /// The host; an IPv6 address is in brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// A text that is no address of a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a `host:port` such as `workspace.scoregate:9193` nor a `unix:PATH`")]
pub struct InvalidPeerAddress(String);

impl PeerAddress {
    /// Whether the connection stays on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp { host, .. } if host == "localhost" => true,
            Self::Tcp { host, .. } => {
                let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
                address.is_ok_and(|address| address.is_loopback())
            }
            Self::Unix(_) => true,
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// The host is not known, or nobody listens there.
    pub async fn connect(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp { .. } => {
                let stream = TcpStream::connect(self.to_string()).await?;
                stream.set_nodelay(true)?;
                Ok(Connection::Tcp(stream))
            }
            Self::Unix(path) => UnixStream::connect(path).await.map(Connection::Unix),
        }
    }
}

impl From<ListenAddress> for PeerAddress {
    fn from(address: ListenAddress) -> Self {
        match address {
            ListenAddress::Tcp(SocketAddr::V4(address)) => {
                Self::Tcp { host: address.ip().to_string(), port: address.port() }
            }
            ListenAddress::Tcp(SocketAddr::V6(address)) => {
                Self::Tcp { host: format!("[{}]", address.ip()), port: address.port() }
            }
            ListenAddress::Unix(path) => Self::Unix(path),
        }
    }
}

impl FromStr for PeerAddress {
    type Err = InvalidPeerAddress;

    fn from_str(text: &str) -> Result<Self, InvalidPeerAddress> {
        let invalid = || InvalidPeerAddress(text.to_owned());
        match text.strip_prefix("unix:") {
            Some("") => return Err(invalid()),
            Some(path) => return Ok(Self::Unix(path.into())),
            None => {}
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(invalid)?;
        let host = canonical_host(host, PortRule::Any).ok_or_else(invalid)?;
        Ok(Self::Tcp { host, port })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A failure to listen, with the address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`{}", advice(.source))]
pub struct BindError {
    /// Where.
    pub address: ListenAddress,
    /// Why not.
    #[source]
    pub source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            ": another process does; end it, or choose another address (port 0: any that is free)"
        }
        _ => "",
    }
}

/// A failed `accept` is mostly a lack of file descriptors: it passes, and a busy loop would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: ListenAddress,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds. A Unix socket replaces one that a dead process left, and appears only when it is ready: bound under
    /// another name, given its mode and group, and renamed. Its directory is made, private, where it is not there.
    ///
    /// # Errors
    /// The address is taken or not to be had, or anybody may write to the directory of the socket.
    pub async fn bind(address: &ListenAddress) -> Result<Self, BindError> {
        Self::bind_for(address, SocketAccess::default()).await
    }

    /// The same with a say about who may connect to a Unix socket.
    ///
    /// # Errors
    /// Those of [`Listener::bind`], or the group is not one of this process's.
    pub async fn bind_for(address: &ListenAddress, access: SocketAccess) -> Result<Self, BindError> {
        let bound = match address {
            ListenAddress::Tcp(wanted) => bind_tcp(*wanted).await,
            ListenAddress::Unix(path) => bind_unix(path, access).await,
        };
        bound.map_err(|source| BindError { address: address.clone(), source })
    }

    /// Where it really listens: the port is the chosen one.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Says so where other machines can reach it and nobody has to prove anything: `insecure` allows that, and it is not to
    /// be forgotten.
    pub(crate) fn warn_if_open(&self, tls: Option<&ServerTls>) {
        if !self.address.is_local() && tls.is_none() {
            tracing::warn!(address = %self.address, "other machines can reach this listener, without TLS");
        }
    }

    /// Whether it is a Unix socket, which only processes of this machine reach.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.address, ListenAddress::Unix(_))
    }

    /// The next connection; `None` once the shutdown stops. A failure is logged and gone past.
    pub async fn next(&self, shutdown: &Shutdown) -> Option<Connection> {
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                () = shutdown.stopping() => return None,
            };
            match accepted {
                Ok(connection) => return Some(connection),
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Connection> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Connection::Tcp(stream))
            }
            Socket::Unix(listener) => Ok(Connection::Unix(listener.accept().await?.0)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenAddress::Unix(path) = &self.address {
            // Best effort: a socket that is left behind is replaced at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn bind_tcp(wanted: SocketAddr) -> io::Result<Listener> {
    let listener = TcpListener::bind(wanted).await?;
    let address = ListenAddress::Tcp(listener.local_addr()?);
    Ok(Listener { socket: Socket::Tcp(listener), address })
}

async fn bind_unix(path: &Path, access: SocketAccess) -> io::Result<Listener> {
    make_private_directory(path, access)?;
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers on this socket"));
    }
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is no socket, and stays"));
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = path.with_file_name(format!(".{}.{}", name.display(), std::process::id()));
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    access.apply(&temporary, access.mode)?;
    std::fs::rename(&temporary, path)?;
    Ok(Listener { socket: Socket::Unix(listener), address: ListenAddress::Unix(path.into()) })
}

/// Where anybody may write, anybody could put a socket of their own in the place of ours.
fn make_private_directory(socket: &Path, access: SocketAccess) -> io::Result<()> {
    let Some(directory) = socket.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    match std::fs::metadata(directory) {
        Ok(found) if found.mode() & 0o002 != 0 => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "anybody can write to `{}`: name a directory in it, which is then made private",
                directory.display()
            ),
        )),
        Ok(found) => refuse_foreign(directory, &found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o750).create(directory)?;
            access.apply(directory, 0o750)
        }
        Err(error) => Err(error),
    }
}

/// In a volume that others can write to, they could have made the directory, or a link to one of theirs, before us.
fn refuse_foreign(directory: &Path, found: &std::fs::Metadata) -> io::Result<()> {
    let own = std::fs::metadata("/proc/self")?.uid();
    let is_trusted = |owner: u32| owner == own || owner == 0;
    if is_trusted(found.uid()) && is_trusted(std::fs::symlink_metadata(directory)?.uid()) {
        return Ok(());
    }
    let problem = format!("`{}` belongs to another user, who could replace the socket", directory.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, problem))
}

/// Who may connect to a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketAccess {
    /// Bits of the socket's mode.
    pub mode: u32,
    /// Id of its group; that of the process if none is set.
    pub group: Option<u32>,
}

impl Default for SocketAccess {
    fn default() -> Self {
        Self { mode: 0o660, group: None }
    }
}

impl SocketAccess {
    fn apply(self, path: &Path, mode: u32) -> io::Result<()> {
        // First the group, so that the mode never speaks of another one.
        if let Some(group) = self.group {
            chown(path, None, Some(group))?;
        }
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    }
}

/// An accepted connection.
#[derive(Debug)]
pub enum Connection {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Connection {
    /// Who is at the other end.
    ///
    /// # Errors
    /// Nobody any more.
    pub fn peer(&self) -> io::Result<Peer> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map(Peer::Tcp),
            Self::Unix(_) => Ok(Peer::Unix),
        }
    }
}

/// The other end of an accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Its address and port.
    Tcp(SocketAddr),
    /// A process of this machine.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A listener on `[::]` sees IPv4 addresses as IPv6 ones.
            Self::Tcp(address) => SocketAddr::new(address.ip().to_canonical(), address.port()).fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("127.0.0.1:9193", "127.0.0.1:9193", true)]
    #[case("localhost:9193", "localhost:9193", true)]
    #[case("[::1]:9193", "[::1]:9193", true)]
    #[case("Workspace.Scoregate.svc:9193", "workspace.scoregate.svc:9193", false)]
    #[case("10.0.0.7:9193", "10.0.0.7:9193", false)]
    #[case("unix:/run/feed.sock", "unix:/run/feed.sock", true)]
    fn peer_address_is_read(#[case] text: &str, #[case] shown: &str, #[case] is_local: bool) {
        let address: PeerAddress = text.parse().unwrap();
        assert_eq!((address.to_string().as_str(), address.is_local()), (shown, is_local));
    }

    #[tokio::test]
    async fn bind_over_a_file_leaves_it_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gate.sock");
        std::fs::write(&path, "of somebody else").unwrap();
        let refused = Listener::bind(&ListenAddress::Unix(path.clone())).await.unwrap_err();
        assert_eq!(refused.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "of somebody else");
    }

    #[tokio::test]
    async fn bind_replaces_the_socket_of_a_dead_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gate.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&ListenAddress::Unix(path.clone())).await.unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn bind_where_anybody_may_write_is_refused_and_a_directory_in_it_is_made_private() {
        let volume = tempfile::tempdir().unwrap();
        std::fs::set_permissions(volume.path(), Permissions::from_mode(0o777)).unwrap();
        let open = ListenAddress::Unix(volume.path().join("gate.sock"));
        let refused = Listener::bind(&open).await.unwrap_err();
        assert!(refused.source.to_string().contains("name a directory in it"), "{}", refused.source);

        let path = volume.path().join("scoregate/gate.sock");
        let group = std::fs::metadata(volume.path()).unwrap().gid();
        let access = SocketAccess { mode: 0o600, group: Some(group) };
        let _listener = Listener::bind_for(&ListenAddress::Unix(path.clone()), access).await.unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o750, 0o600));
    }

    #[rstest]
    #[case("127.0.0.1:1234", "127.0.0.1:1234")]
    #[case("[::ffff:10.0.0.7]:1234", "10.0.0.7:1234")]
    #[case("[::1]:1234", "[::1]:1234")]
    fn peer_is_shown_as_people_know_it(#[case] address: &str, #[case] shown: &str) {
        assert_eq!(Peer::Tcp(address.parse().unwrap()).to_string(), shown);
    }

    #[rstest]
    #[case("workspace")]
    #[case("workspace:")]
    #[case("workspace:0")]
    #[case("workspace:70000")]
    #[case(":9193")]
    #[case("::1:9193")]
    #[case("http://workspace:9193")]
    #[case("unix:")]
    fn peer_address_is_refused(#[case] text: &str) {
        assert!(text.parse::<PeerAddress>().is_err());
    }

    #[rstest]
    #[case::foreign_directory_in_a_shared_volume(0o777, Some(65534), 0o755)]
    #[case::foreign_directory_in_a_sticky_volume(0o1777, Some(65534), 0o755)]
    #[tokio::test]
    async fn bind_in_a_directory_of_another_user_is_refused(
        #[case] volume_mode: u32,
        #[case] owner: Option<u32>,
        #[case] mode: u32,
    ) {
        let volume = tempfile::tempdir().unwrap();
        std::fs::set_permissions(volume.path(), Permissions::from_mode(volume_mode)).unwrap();
        let dir = volume.path().join("scoregate");
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
        chown(&dir, owner, None).unwrap();
        let bound = Listener::bind(&ListenAddress::Unix(dir.join("gate.sock"))).await;
        assert!(bound.is_err(), "used: {mode:o} owner {owner:?}");
    }

    #[tokio::test]
    async fn bind_through_a_link_of_another_user_is_refused() {
        let volume = tempfile::tempdir().unwrap();
        std::fs::set_permissions(volume.path(), Permissions::from_mode(0o1777)).unwrap();
        let theirs = tempfile::tempdir().unwrap();
        std::os::unix::fs::lchown(theirs.path(), Some(65534), None).unwrap();
        let link = volume.path().join("scoregate");
        std::os::unix::fs::symlink(theirs.path(), &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
        let bound = Listener::bind(&ListenAddress::Unix(volume.path().join("scoregate/gate.sock"))).await;
        assert!(bound.is_err(), "followed a link of somebody else");
    }
}
