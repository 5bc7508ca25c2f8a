//! Connections that a gate opens, plain or with TLS.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::listen::{Connection, PeerAddress};
use crate::tls::ClientTls;

type Stream = Either<Connection, TlsStream<Connection>>;

/// A connection for tonic's channels, which know nothing of TLS here.
pub(super) async fn dial(to: PeerAddress, tls: Option<Arc<ClientTls>>) -> io::Result<TokioIo<Stream>> {
    let connection = to.connect().await?;
    Ok(TokioIo::new(match (tls, &to) {
        (Some(tls), PeerAddress::Tcp { host, .. }) => Stream::Right(tls.connect(host, connection).await?),
        _ => Stream::Left(connection),
    }))
}
