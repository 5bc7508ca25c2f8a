//! `GET /scoregate/v1/gates`: which gate enforces what. Our own, for the CLI.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::Api;
use super::access::{Access, Endpoint};
use super::description::{Description, Group, words};
use crate::workspace::{GateNack, GateStatus, Presence, Role};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Gates, "listGates", "List which gate enforces what")
        .detail("Those that are connected, those that are expected back after a restart of the workspace, and those that \
            disconnected in the last 5 minutes.")
        .answer::<GateList>(StatusCode::OK, "The gates, by name.");
    // They are named to whoever changes something and waits for them; readers need no addresses of machines.
    let access = Access::Role(Role::Contributor);
    Endpoint::new(MethodFilter::GET, "/scoregate/v1/gates", access, list, description)
}

/// The gates, by name.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct GateList {
    /// Of policy at the workspace.
    epoch: u64,
    /// Of policy at the workspace.
    revision: u64,
    value: Vec<GateObject>,
}

/// A gate, as the workspace sees it. What it has not said since the workspace's start is null.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Gate)]
struct GateObject {
    name: String,
    /// `connected`; `shared`: so are two gates of this name, and neither confirms anything; `expected` back after a restart of the workspace; `away` since it disconnected.
    #[schema(schema_with = states)]
    state: &'static str,
    /// Since when it is connected or away.
    #[schema(format = DateTime, required)]
    since: Option<String>,
    /// Until when it is waited for, where it is expected.
    #[schema(format = DateTime, required)]
    expected_until: Option<String>,
    /// Of its software.
    #[schema(required)]
    version: Option<String>,
    /// Who it authenticated as.
    #[schema(required)]
    principal: Option<String>,
    /// IP address and port of the connection's other end, or `unix`.
    #[schema(required)]
    address: Option<String>,
    /// Of the policy that it enforces for certain, also after a restart.
    #[schema(required)]
    epoch: Option<u64>,
    #[schema(required)]
    revision: Option<u64>,
    /// Since when it is known to enforce that.
    #[schema(format = DateTime, required)]
    enforced_since: Option<String>,
    /// Revisions that it lacks.
    #[schema(required)]
    lag_revisions: Option<u64>,
    /// For how long there is something newer; 0 if there is not. Not known for longer than the workspace runs.
    #[schema(required)]
    lag_seconds: Option<f64>,
    /// What it refused last.
    #[schema(required)]
    last_nack: Option<GateNackObject>,
}

/// What a gate refused, and why.
#[derive(Serialize, ToSchema)]
#[schema(as = GateNack)]
struct GateNackObject {
    epoch: u64,
    revision: u64,
    /// In the gate's words.
    reason: String,
    #[schema(format = DateTime)]
    time: String,
}

fn states() -> Object {
    words(["connected", "shared", "expected", "away"])
}

async fn list(State(api): State<Api>) -> Json<GateList> {
    let (now, version) = (api.workspace.time(), api.workspace.policy_version());
    let value = api.workspace.known_gates().into_iter().map(|gate| gate_object(gate, now)).collect();
    Json(GateList { epoch: version.epoch, revision: version.revision, value })
}

fn gate_object(gate: GateStatus, now: Timestamp) -> GateObject {
    let (state, since, expected_until) = match gate.presence {
        Presence::Connected { since } => ("connected", Some(since), None),
        Presence::Shared { since } => ("shared", Some(since), None),
        Presence::Expected { until } => ("expected", None, Some(until)),
        Presence::Away { since } => ("away", Some(since), None),
    };
    let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let lag = |since: Timestamp| now.duration_since(since).as_secs_f64().max(0.0);
    GateObject {
        name: gate.name,
        state,
        since: text(since),
        expected_until: text(expected_until),
        version: gate.version,
        principal: gate.principal,
        address: gate.remote,
        epoch: gate.enforces.map(|version| version.epoch),
        revision: gate.enforces.map(|version| version.revision),
        enforced_since: text(gate.enforces_since),
        lag_revisions: gate.lacks,
        lag_seconds: gate.enforces.map(|_| gate.behind_since.map_or(0.0, lag)),
        last_nack: gate.last_nack.map(nack_object),
    }
}

fn nack_object(GateNack { version, reason, at }: GateNack) -> GateNackObject {
    GateNackObject { epoch: version.epoch, revision: version.revision, reason, time: at.to_string() }
}
