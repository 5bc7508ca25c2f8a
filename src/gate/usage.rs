//! Which credentials are in use: what the policy's counters have is told to the workspace from time to time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scoregate_authz::{Permit, ServiceUid, Slot, UnixTime, UsedCredential, Uses, Verdict};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::in_force::InForce;
use super::metrics::UseMetrics;
use crate::proto::scoregate::policy::v1 as wire;

/// From one report to the next, at least. A use after a quiet time is told within [`LOOK`].
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is looked whether there is something to tell.
const LOOK: Duration = Duration::from_secs(1);
/// Most uses in one message: the workspace takes 16 KiB, and a use has about a hundred bytes at most.
const MESSAGE_USES: usize = 100;

/// Counts uses, and keeps those that the workspace was not told of.
#[derive(Debug)]
pub(crate) struct Usage {
    in_force: Arc<InForce>,
    metrics: UseMetrics,
    /// Something was used since the last look. Mostly read, so that checks do not fight for it.
    used: AtomicBool,
    untold: Mutex<Untold>,
}

#[derive(Debug, Default)]
struct Untold {
    /// Bounded by the credentials in policy: it does not change while there is no workspace to be told.
    uses: HashMap<(ServiceUid, UsedCredential), (u64, u64)>,
    reported: Option<Instant>,
}

impl Usage {
    pub(crate) fn new(in_force: Arc<InForce>, metrics: UseMetrics) -> Self {
        Self { in_force, metrics, used: AtomicBool::new(false), untold: Mutex::default() }
    }

    /// Counts a use.
    pub(crate) fn note(&self, verdict: &Verdict, permit: &Permit, now: UnixTime) {
        let Some(service) = &verdict.service else { return };
        service.note_use(permit, now);
        self.metrics.used(permit);
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Release);
        }
    }

    /// Tells the workspace, for as long as the connection lasts. What is given to it is never told again, so that what is
    /// lost with a connection is a minute at most, and nothing counts twice.
    pub(crate) async fn report(&self, outbound: mpsc::WeakSender<wire::GateMessage>) -> Infallible {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut collected = Instant::now();
        loop {
            looks.tick().await;
            // The flag may be a moment behind: from time to time it does not matter.
            let is_time = collected.elapsed() >= REPORT_INTERVAL;
            if !self.is_due() || !(self.used.swap(false, Ordering::AcqRel) || is_time || self.is_left()) {
                continue;
            }
            self.collect();
            collected = Instant::now();
            if let Some(outbound) = outbound.upgrade() {
                self.send(&outbound).await;
            }
        }
    }

    async fn send(&self, outbound: &mpsc::Sender<wire::GateMessage>) {
        while self.is_left() {
            let Ok(place) = outbound.reserve().await else { return };
            let usage = wire::gate_message::Message::Usage(self.next_message());
            place.send(wire::GateMessage { message: Some(usage) });
            self.untold().reported = Some(Instant::now());
        }
    }

    fn is_due(&self) -> bool {
        self.untold().reported.is_none_or(|reported| reported.elapsed() >= REPORT_INTERVAL)
    }

    fn is_left(&self) -> bool {
        !self.untold().uses.is_empty()
    }

    /// Takes what the policy's counters have.
    fn collect(&self) {
        let Some(snapshot) = self.in_force.snapshot() else { return };
        let mut untold = self.untold();
        for service in snapshot.services() {
            for Uses { credential, count, last_used } in service.take_uses() {
                let (counted, last) = untold.uses.entry((service.uid().clone(), credential)).or_default();
                *counted = counted.saturating_add(count);
                *last = last_used.max(*last);
            }
        }
    }

    fn next_message(&self) -> wire::Usage {
        let mut untold = self.untold();
        let some: Vec<_> = untold.uses.keys().take(MESSAGE_USES).cloned().collect();
        let uses = some.into_iter().filter_map(|key| {
            let (count, last_used) = untold.uses.remove(&key)?;
            Some(wire_use(&key.0, key.1, count, last_used))
        });
        wire::Usage { uses: uses.collect() }
    }

    fn untold(&self) -> MutexGuard<'_, Untold> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wire_use(
    service: &ServiceUid,
    credential: UsedCredential,
    count: u64,
    last_used: u64,
) -> wire::CredentialUse {
    let (kind, fingerprint) = match credential {
        UsedCredential::Key(Slot::Primary, key) => (wire::CredentialKind::PrimaryKey, Some(key)),
        UsedCredential::Key(Slot::Secondary, key) => (wire::CredentialKind::SecondaryKey, Some(key)),
        UsedCredential::Token => (wire::CredentialKind::Token, None),
    };
    wire::CredentialUse {
        service_uid: service.to_string(),
        kind: kind.into(),
        key_fingerprint: fingerprint.map(|key| key.as_bytes().to_vec()).unwrap_or_default(),
        count,
        last_used,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::fixtures::{key, key_service, peppers, snapshot, version};
    use crate::gate::request::HttpView;
    use crate::proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
    use crate::proto::envoy::service::auth::v3::{AttributeContext, CheckRequest};
    use prost::Message;
    use scoregate_authz::{CredentialHeaders, Decision, Policy, PortRule, Rules, TargetSource};

    fn usage(services: usize) -> Usage {
        let services: Vec<_> = (0..services).map(|number| key_service(&format!("svc-{number}"), 1)).collect();
        let snapshot = snapshot(version(1, 1), &services);
        let in_force = Arc::new(InForce::default());
        in_force.put(Arc::new(snapshot));
        Usage::new(in_force, UseMetrics::default())
    }

    fn use_key(usage: &Usage, service: &str, slot: &str) {
        let rules = Rules {
            target: TargetSource::ContextExtensions,
            ports: PortRule::Any,
            credential_headers: CredentialHeaders::default(),
            clock_skew: Duration::ZERO,
            peppers: peppers(),
        };
        let headers = [("authorization".to_owned(), format!("Bearer {}", key(service, slot, 1)))].into();
        let http = HttpRequest { headers, path: "/score".to_owned(), ..HttpRequest::default() };
        let request = Some(Request { http: Some(http) });
        let context_extensions = [("service".to_owned(), service.to_owned())].into();
        let request = CheckRequest { attributes: Some(AttributeContext { request, context_extensions }) };
        let (snapshot, now) = (usage.in_force.snapshot().unwrap(), UnixTime::from_secs(7));
        let policy = Policy::Current(&snapshot);
        let view = HttpView::new(&request);
        let verdict = scoregate_authz::check(&rules, policy, view.as_ref(), now, &(), &mut ());
        let Decision::Allow(permit) = &verdict.decision else { panic!("{:?}", verdict.decision) };
        usage.note(&verdict, permit, now);
    }

    /// Reports for a while, and returns what was sent.
    async fn reported(usage: &Usage, during: Duration) -> Vec<wire::Usage> {
        let (outbound, mut messages) = mpsc::channel(1_000);
        let _ = tokio::time::timeout(during, usage.report(outbound.downgrade())).await;
        drop(outbound);
        let mut sent = Vec::new();
        while let Some(message) = messages.recv().await {
            let Some(wire::gate_message::Message::Usage(usage)) = message.message else { panic!("no usage") };
            sent.push(usage);
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_use_is_told_at_once_and_then_once_a_minute() {
        let usage = usage(1);
        assert_eq!(reported(&usage, Duration::from_secs(200)).await, []);
        use_key(&usage, "svc-0", "primary");
        let sent = reported(&usage, Duration::from_secs(3)).await;
        let [wire::Usage { uses }] = sent.as_slice() else { panic!("{sent:?}") };
        assert_eq!((uses[0].service_uid.as_str(), uses[0].count, uses[0].last_used), ("uid-svc-0", 1, 7));
        assert_eq!((uses[0].kind(), uses[0].key_fingerprint.len()), (wire::CredentialKind::PrimaryKey, 8));
        for _ in 0..5 {
            use_key(&usage, "svc-0", "primary");
        }
        use_key(&usage, "svc-0", "secondary");
        // Connections that come and go in between change nothing.
        for _ in 0..5 {
            assert_eq!(reported(&usage, Duration::from_secs(10)).await, []);
        }
        let sent = reported(&usage, Duration::from_secs(20)).await;
        let counts: u64 = sent.iter().flat_map(|usage| &usage.uses).map(|used| used.count).sum();
        assert_eq!((sent.len(), counts), (1, 6));
        assert_eq!(reported(&usage, Duration::from_secs(200)).await, [], "nothing is told twice");
    }

    #[tokio::test(start_paused = true)]
    async fn much_is_told_in_several_messages_that_the_workspace_takes() {
        let usage = usage(250);
        for number in 0..250 {
            use_key(&usage, &format!("svc-{number}"), "primary");
        }
        let sent = reported(&usage, Duration::from_secs(3)).await;
        let lengths: Vec<_> = sent.iter().map(|usage| usage.uses.len()).collect();
        assert_eq!(lengths, [100, 100, 50]);
        let longest_uid = "u".repeat(64).parse().unwrap();
        let longest = wire_use(&longest_uid, sent_credential(), u64::MAX, u64::MAX);
        let message = wire::Usage { uses: vec![longest; MESSAGE_USES] };
        assert!(message.encoded_len() < 15 * 1024);
    }

    fn sent_credential() -> UsedCredential {
        let fingerprint = scoregate_authz::KeyFingerprint::from_bytes(&[255; 8]).unwrap();
        UsedCredential::Key(Slot::Secondary, fingerprint)
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_connection_took_is_told_to_the_next() {
        let usage = usage(250);
        for number in 0..250 {
            use_key(&usage, &format!("svc-{number}"), "primary");
        }
        let (outbound, mut messages) = mpsc::channel(1);
        let reporting = tokio::time::timeout(Duration::from_secs(3), usage.report(outbound.downgrade()));
        assert!(reporting.await.is_err(), "nobody reads");
        messages.close();
        assert!(messages.recv().await.is_some());
        let sent = reported(&usage, Duration::from_secs(65)).await;
        assert_eq!(sent.iter().map(|usage| usage.uses.len()).sum::<usize>(), 150);
    }
}
