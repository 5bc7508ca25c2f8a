//! The policy feed: what gates pull and keep.

mod messages;
mod session;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::Workspace;
use super::domain::Principal;
use crate::http_server;
use crate::listen::{Listener, Peer};
use crate::proto::scoregate::policy::v1 as wire;
use crate::shutdown::Shutdown;
use crate::terms::Role;
use crate::tls::{PeerIdentity, ServerTls};
use session::Session;
use wire::policy_feed_server::{PolicyFeed, PolicyFeedServer};

/// Longest message of a gate, in bytes.
const MAX_GATE_MESSAGE: usize = 16 * 1024;
/// Messages that wait for a gate to read them. A slow gate holds no more than these in memory.
const WAITING_MESSAGES: usize = 2;

/// Serves gates until the shutdown stops.
pub(super) async fn serve(
    workspace: &Workspace,
    listener: Listener,
    tls: Option<ServerTls>,
    shutdown: &Shutdown,
) {
    let feed = PolicyFeedServer::new(Feed { workspace: workspace.clone(), shutdown: shutdown.clone() })
        .max_decoding_message_size(MAX_GATE_MESSAGE);
    let router = tonic::service::Routes::new(feed).into_axum_router();
    http_server::serve_http2(&listener, tls, &router, shutdown).await;
}

#[derive(Debug)]
struct Feed {
    workspace: Workspace,
    shutdown: Shutdown,
}

impl Feed {
    /// That of the credential, or else of the client's certificate.
    fn gate_principal(
        &self,
        metadata: &MetadataMap,
        identity: Option<&PeerIdentity>,
    ) -> Result<Principal, Status> {
        if let Some(identity) = identity.filter(|_| !metadata.contains_key("authorization")) {
            return Ok(Principal::of_certificate(identity));
        }
        let refused = || Status::unauthenticated("a credential of a gate principal is needed");
        let bearer = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(refused)?;
        let principal = self.workspace.authenticate(bearer).ok_or_else(refused)?;
        if !principal.role.includes(Role::Gate) {
            let message = format!("the policy feed is for the role gate, not {}", principal.role.as_str());
            return Err(Status::permission_denied(message));
        }
        Ok(principal)
    }
}

#[tonic::async_trait]
impl PolicyFeed for Feed {
    type SubscribeStream = ReceiverStream<Result<wire::WorkspaceMessage, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<wire::GateMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let principal = self.gate_principal(request.metadata(), request.extensions().get())?;
        let remote = request.extensions().get::<Peer>().map(ToString::to_string).unwrap_or_default();
        let (outgoing, messages) = mpsc::channel(WAITING_MESSAGES);
        let workspace = self.workspace.clone();
        let shutdown = self.shutdown.clone();
        // The hello is awaited in the session, not here: a gate may want to see the answer's beginning first.
        self.shutdown.spawn(async move {
            let end =
                Session::run(workspace, (principal, remote), request.into_inner(), &outgoing, &shutdown)
                    .await;
            // A gate that reads too slowly to take this sees the stream end without it.
            let _ = outgoing.try_send(Err(end));
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}
