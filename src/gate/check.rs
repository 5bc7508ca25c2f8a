//! The check itself: from a `CheckRequest` to a `CheckResponse`, without waiting for anything.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use quick_cache::sync::Cache;
use scoregate_authz::{
    Decision, Policy, Proof, ProofCache, Reason, Rules, Trace, UndecidedReason, UnixTime, Verdict,
};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

use super::answer::Answers;
use super::in_force::InForce;
use super::metrics::CheckMetrics;
use super::refusals::{RefusalLog, Steps};
use super::request::HttpView;
use super::spans::Spans;
use super::usage::Usage;
use crate::clock::Clock;
use crate::fault;
use crate::proto::envoy::service::auth::v3::authorization_server::Authorization;
use crate::proto::envoy::service::auth::v3::{CheckRequest, CheckResponse};

/// Decides about requests.
pub(crate) trait Decide: Send + Sync + 'static {
    /// The verdict on a request, which is `None` where it is not about HTTP.
    fn decide(&self, request: Option<HttpView<'_>>, now: UnixTime) -> Verdict;

    /// The same, and each step on the way to it. Nothing is remembered and nothing was: a token is proven anew.
    fn explain(&self, request: Option<HttpView<'_>>, now: UnixTime, steps: &mut Steps) -> Verdict;
}

/// The core with what it decides from: rules, the snapshot in force, the time, and the tokens that were proven.
#[derive(Debug)]
pub(crate) struct Decider {
    rules: Rules,
    in_force: Arc<InForce>,
    proofs: Proofs,
}

impl Decider {
    pub(crate) fn new(rules: Rules, in_force: Arc<InForce>, proof_capacity: usize) -> Self {
        Self { rules, in_force, proofs: Proofs(Cache::new(proof_capacity)) }
    }

    fn decide_with(
        &self,
        request: Option<HttpView<'_>>,
        now: UnixTime,
        proofs: &impl ProofCache,
        trace: &mut impl Trace,
    ) -> Verdict {
        let snapshot = self.in_force.load();
        let policy = match snapshot.as_deref() {
            None => Policy::None,
            Some(snapshot) if self.in_force.is_stale(now) => Policy::Stale(snapshot),
            Some(snapshot) => Policy::Current(snapshot),
        };
        scoregate_authz::check(&self.rules, policy, request.as_ref(), now, proofs, trace)
    }
}

impl Decide for Decider {
    fn decide(&self, request: Option<HttpView<'_>>, now: UnixTime) -> Verdict {
        self.decide_with(request, now, &self.proofs, &mut ())
    }

    fn explain(&self, request: Option<HttpView<'_>>, now: UnixTime, steps: &mut Steps) -> Verdict {
        self.decide_with(request, now, &(), steps)
    }
}

/// Tokens that were proven, by the SHA-256 of their text.
struct Proofs(Cache<[u8; 32], Arc<Proof>>);

impl std::fmt::Debug for Proofs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proofs({})", self.0.len())
    }
}

impl ProofCache for Proofs {
    fn lookup(&self, token: &[u8; 32]) -> Option<Arc<Proof>> {
        self.0.get(token)
    }

    fn insert(&self, token: [u8; 32], proof: Arc<Proof>) {
        self.0.insert(token, proof);
    }
}

/// `envoy.service.auth.v3.Authorization`. Each worker has its own.
#[derive(Debug)]
pub(crate) struct CheckService<D> {
    decider: Arc<D>,
    answers: Arc<Answers>,
    clock: Arc<dyn Clock>,
    metrics: CheckMetrics,
    usage: Arc<Usage>,
    refusals: RefusalLog,
    spans: Spans,
}

impl<D: Decide> CheckService<D> {
    pub(crate) fn new(
        decider: Arc<D>,
        answers: Arc<Answers>,
        clock: Arc<dyn Clock>,
        metrics: CheckMetrics,
        usage: Arc<Usage>,
        refusals: RefusalLog,
        spans: Spans,
    ) -> Self {
        Self { decider, answers, clock, metrics, usage, refusals, spans }
    }

    fn answer(&self, metadata: &MetadataMap, request: &CheckRequest) -> CheckResponse {
        let begun = Instant::now();
        let (request, now) = (HttpView::new(request), self.clock.now());
        let verdict = self.decide(request, now);
        let response = self.answers.answer(&verdict, request);
        let took = begun.elapsed();
        self.metrics.seconds.observe(took);
        self.metrics.decided(&verdict);
        if let Decision::Allow(permit) = &verdict.decision {
            self.usage.note(&verdict, permit, now);
        }
        self.refusals.note(&verdict, request, now, || self.steps_to(&verdict, request, now));
        self.spans.note(metadata, request, &verdict, &response, now, took);
        response
    }

    /// A panic is a verdict of its own, for this request only.
    fn decide(&self, request: Option<HttpView<'_>>, now: UnixTime) -> Verdict {
        // Unwind safe: what a check shares with others are a snapshot that it cannot change, and a cache that is
        // consistent at each of its steps.
        let decide = || {
            fault::within_decision();
            self.decider.decide(request, now)
        };
        catch_unwind(AssertUnwindSafe(decide)).unwrap_or_else(|_| {
            self.metrics.panics.inc();
            Verdict::internal()
        })
    }

    /// How a verdict came about. `None` where policy has changed since, and after a fault, which would occur again.
    fn steps_to(&self, verdict: &Verdict, request: Option<HttpView<'_>>, now: UnixTime) -> Option<Steps> {
        if verdict.decision.reason() == Reason::Undecided(UndecidedReason::Internal) {
            return None;
        }
        let mut steps = Steps::new();
        let again = catch_unwind(AssertUnwindSafe(|| self.decider.explain(request, now, &mut steps))).ok()?;
        let is_same = (again.revision, &again.decision) == (verdict.revision, &verdict.decision);
        is_same.then_some(steps)
    }
}

#[tonic::async_trait]
impl<D: Decide> Authorization for CheckService<D> {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        if is_deadline_past(request.metadata()) {
            self.metrics.expired.inc();
            return Err(Status::deadline_exceeded("the deadline has passed"));
        }
        fault::before_check().await;
        Ok(Response::new(self.answer(request.metadata(), request.get_ref())))
    }
}

/// Whether the caller leaves no time at all. A check takes microseconds: any other deadline is long enough.
fn is_deadline_past(metadata: &MetadataMap) -> bool {
    let timeout = metadata.get("grpc-timeout").map(MetadataValue::as_bytes);
    timeout
        .and_then(<[u8]>::split_last)
        .is_some_and(|(_, digits)| !digits.is_empty() && digits.iter().all(|digit| *digit == b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UndecidedAnswer;
    use crate::gate::fixtures::{peppers, snapshot, version};
    use crate::gate::metrics::GateMetrics;
    use crate::metrics::Metrics;
    use crate::proto::envoy::service::auth::v3::check_response::HttpResponse;
    use scoregate_authz::{CredentialHeaders, Decision, Denial, DenyReason};

    struct PanicsOnHttp;

    impl Decide for PanicsOnHttp {
        fn explain(&self, request: Option<HttpView<'_>>, now: UnixTime, _: &mut Steps) -> Verdict {
            self.decide(request, now)
        }

        fn decide(&self, request: Option<HttpView<'_>>, _: UnixTime) -> Verdict {
            assert!(request.is_none(), "a fault for the test");
            let decision = Decision::Deny(Denial { reason: DenyReason::NoHttp, credential_presented: false });
            Verdict { decision, ..Verdict::internal() }
        }
    }

    fn service() -> (CheckService<PanicsOnHttp>, Metrics) {
        let metrics = Metrics::default();
        (service_of(PanicsOnHttp, &metrics), metrics)
    }

    fn service_of<D: Decide>(decider: D, metrics: &Metrics) -> CheckService<D> {
        let clock = Arc::new(crate::clock::SystemClock);
        let metrics = GateMetrics::register(metrics, clock.clone());
        let answers = Answers::new("r", &CredentialHeaders::default(), UndecidedAnswer::DeniedResponse);
        let usage = Arc::new(Usage::new(Arc::default(), metrics.uses));
        let refusals = RefusalLog::new(Arc::default());
        CheckService::new(
            Arc::new(decider),
            Arc::new(answers),
            clock,
            metrics.checks,
            usage,
            refusals,
            Spans::none(),
        )
    }

    fn http_request() -> CheckRequest {
        use crate::proto::envoy::service::auth::v3::AttributeContext;
        use crate::proto::envoy::service::auth::v3::attribute_context;
        let request = attribute_context::Request { http: Some(attribute_context::HttpRequest::default()) };
        let attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
        CheckRequest { attributes: Some(attributes) }
    }

    fn http_status(response: &CheckResponse) -> i32 {
        match &response.http_response {
            Some(HttpResponse::DeniedResponse(denied)) => denied.status.as_ref().unwrap().code,
            other => panic!("not a denial: {other:?}"),
        }
    }

    #[test]
    fn t016_panic_is_undecided_for_that_request_only() {
        let (service, metrics) = service();
        let failed = service.answer(&MetadataMap::new(), &http_request());
        assert_eq!((http_status(&failed), failed.status.unwrap().code), (503, 14));
        assert_eq!(http_status(&service.answer(&MetadataMap::new(), &CheckRequest::default())), 400);
        assert!(metrics.render().contains("scoregate_check_panics_total 1"));
    }

    #[tokio::test]
    async fn t015_no_work_is_done_past_the_deadline() {
        let (service, metrics) = service();
        let mut request = Request::new(http_request());
        request.metadata_mut().insert("grpc-timeout", "0m".parse().unwrap());
        let status = service.check(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(metrics.render().contains("scoregate_checks_expired_total 1"));
        assert!(metrics.render().contains("scoregate_check_panics_total 0"));
    }

    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Everything that is logged while `work` runs, at every level.
    fn logged(work: impl FnOnce()) -> String {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = log.0.lock().unwrap();
        String::from_utf8(bytes.clone()).unwrap()
    }

    #[test]
    fn t129_refusal_is_one_line_without_the_credential() {
        let mut request = http_request();
        let http = request.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
        http.headers.insert("authorization".to_owned(), "Bearer very-secret-very-secret".to_owned());
        http.headers.insert("x-request-id".to_owned(), "id-1\n=forged \u{e4}".to_owned());
        let rules = Rules {
            target: scoregate_authz::TargetSource::ContextExtensions,
            ports: scoregate_authz::PortRule::Any,
            credential_headers: CredentialHeaders::default(),
            clock_skew: std::time::Duration::ZERO,
            peppers: peppers(),
        };
        let policy = Arc::new(InForce::default());
        policy.put(Arc::new(snapshot(version(1, 1), &[])));
        let service = service_of(Decider::new(rules, policy, 10), &Metrics::default());
        let log = logged(|| drop(service.answer(&MetadataMap::new(), &request)));
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(
            log.contains(r#"reason="unknown_service""#) && log.contains(r#"request_id="id-1forged""#),
            "{log}"
        );
        assert!(!log.contains("secret"), "{log}");
    }
}
