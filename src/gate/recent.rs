//! `GET /refusals`: the last requests that were refused, or are only let through because their service is in shadow.

use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use jiff::Timestamp;
use scoregate_authz::{DenyReason, ServiceName, UnixTime};
use serde::{Deserialize, Serialize};

use super::explain::{Step, shown};
use super::refusals::{Recent, RecentRefusals, Refusal};
use super::request_ids;

/// Most of them in one answer, and how many where nothing is said.
const MOST: usize = 1_000;
const USUAL: usize = 20;

/// The route. For the admin listener: it tells what no client may know.
pub(crate) fn routes(refusals: RecentRefusals) -> Router {
    Router::new().route("/refusals", get(list)).with_state(refusals)
}

/// Which of them are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    last: Option<usize>,
    request_id: Option<String>,
    trace_id: Option<String>,
}

impl Wanted {
    /// Ids are compared as they are kept.
    fn includes(&self, refusal: &Refusal) -> bool {
        let ids = &refusal.ids;
        let is_request = |id: &String| request_ids::request_id(id.as_bytes()) == ids.request_id;
        let is_trace = |id: &String| ids.trace_id.as_ref().is_some_and(|kept| kept.eq_ignore_ascii_case(id));
        let request_id = self.request_id.as_ref().is_none_or(|id| ids.request_id.is_some() && is_request(id));
        request_id && self.trace_id.as_ref().is_none_or(is_trace)
    }
}

/// Never a credential.
#[derive(Debug, Serialize)]
struct List {
    /// The latest first.
    refusals: Vec<Shown>,
    /// How many are remembered.
    remembered: usize,
    /// How many were, and are not any more.
    forgotten: u64,
}

#[derive(Debug, Serialize)]
struct Shown {
    time: String,
    decision: &'static str,
    reason: &'static str,
    /// Why it would be refused, where shadow lets it through.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_reason: Option<&'static str>,
    service: Option<String>,
    /// The slot that had this key until it was replaced.
    key_slot: Option<&'static str>,
    /// The signing key that the token names; null unless it is one of the workspace's.
    signing_key: Option<String>,
    request_id: Option<String>,
    trace_id: Option<String>,
    revision: u64,
    /// Null where so many were refused at once that no more than the reason was noted.
    steps: Option<Vec<Step>>,
}

async fn list(State(refusals): State<RecentRefusals>, Query(wanted): Query<Wanted>) -> Json<List> {
    let most = wanted.last.unwrap_or(USUAL).min(MOST);
    let Recent { refusals, remembered, forgotten } = refusals.last(most, |refusal| wanted.includes(refusal));
    let refusals = refusals.iter().map(|refusal| show(refusal)).collect();
    Json(List { refusals, remembered, forgotten })
}

fn show(refusal: &Refusal) -> Shown {
    Shown {
        time: time(refusal.at),
        decision: refusal.reason.outcome(),
        reason: refusal.reason.code(),
        shadow_reason: refusal.would_be.map(DenyReason::code),
        service: refusal.service.as_ref().map(ServiceName::to_string),
        key_slot: refusal.key_slot(),
        signing_key: refusal.signing_key().map(str::to_owned),
        request_id: refusal.ids.request_id.clone(),
        trace_id: refusal.ids.trace_id.clone(),
        revision: refusal.revision,
        steps: refusal.steps.clone().map(shown),
    }
}

/// To the millisecond, as logs have it.
fn time(at: UnixTime) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX).to_string()
}
