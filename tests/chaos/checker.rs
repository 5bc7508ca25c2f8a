//! Asks gates about credentials, directly and through their Envoys, and has the oracle judge the answers.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use scoregate::proto::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use scoregate::proto::envoy::service::auth::v3::check_response::HttpResponse;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use crate::oracle::Ticket;
use crate::random::Random;
use crate::run::{Run, Stop};
use crate::support::{Checks, Connection, Request};

/// Between two checks of one caller.
const PAUSE: (u64, u64) = (1, 5);

/// A caller of a check port, as Envoy is one.
pub(crate) struct Direct {
    runtime: Runtime,
    client: AuthorizationClient<Channel>,
}

impl Direct {
    pub(crate) fn connect(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let endpoint = endpoint.timeout(Duration::from_secs(10)).connect_timeout(Duration::from_secs(1));
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        Self { runtime, client: AuthorizationClient::new(channel) }
    }

    /// The HTTP status that the gate decides on; `None` without an answer.
    pub(crate) fn ask(&mut self, service: &str, credential: &str) -> Option<i32> {
        let answer = self.runtime.block_on(self.client.check(Checks::request(service, credential)));
        Some(match answer.ok()?.into_inner().http_response? {
            HttpResponse::OkResponse(_) => 200,
            HttpResponse::DeniedResponse(refusal) | HttpResponse::ErrorResponse(refusal) => {
                refusal.status?.code
            }
        })
    }
}

pub(crate) fn check_directly(run: &Run, gate: usize, address: &str, mut random: Random) -> Result<(), Stop> {
    let mut direct = Direct::connect(address);
    loop {
        let ticket = draw(run, gate, &mut random);
        let service = run.oracle.name(ticket.service);
        match direct.ask(&service, ticket.credential.text()) {
            Some(status) => {
                run.direct.fetch_add(1, Ordering::Relaxed);
                judge(run, &ticket, status)?;
                run.sleep(random.millis(PAUSE.0, PAUSE.1))?;
            }
            None => no_answer(run)?,
        }
    }
}

pub(crate) fn check_through_envoy(
    run: &Run,
    gate: usize,
    envoy: SocketAddr,
    mut random: Random,
) -> Result<(), Stop> {
    let mut connection = None;
    loop {
        let ticket = draw(run, gate, &mut random);
        let request = Request::score(&run.oracle.name(ticket.service)).bearer(ticket.credential.text());
        if connection.is_none() {
            connection = Connection::open(envoy).ok();
        }
        let answer = connection.as_mut().and_then(|connection| connection.send(&request).ok());
        match answer {
            // Envoy says so for a gate that it does not reach. A gate that cannot decide says so with a body.
            Some(answer) if answer.status == 503 && !answer.text().contains("ServiceUnavailable") => {
                no_answer(run)?;
            }
            Some(answer) => {
                run.envoy.fetch_add(1, Ordering::Relaxed);
                judge(run, &ticket, answer.status.into())?;
                run.sleep(random.millis(PAUSE.0, PAUSE.1))?;
            }
            None => {
                connection = None;
                no_answer(run)?;
            }
        }
    }
}

fn no_answer(run: &Run) -> Result<(), Stop> {
    run.no_answer.fetch_add(1, Ordering::Relaxed);
    run.sleep(Duration::from_millis(10))
}

/// A check of a service with a credential of its own, or of another one.
fn draw(run: &Run, gate: usize, random: &mut Random) -> Ticket {
    let services = run.oracle.services();
    let service = random.below(services);
    let of = if random.percent(92) { service } else { random.below(services) };
    let credential = run.oracle.draw(of, random);
    run.oracle.begin(service, gate, credential)
}

fn judge(run: &Run, ticket: &Ticket, status: i32) -> Result<(), Stop> {
    let accepted = match status {
        200 => true,
        401 => false,
        other => return Err(run.fail(&format!("gate-{} answered {other}", ticket.gate))),
    };
    run.oracle.judge(ticket, accepted).map_err(|wrong| run.fail(&format!("WRONG DECISION: {wrong}")))
}
