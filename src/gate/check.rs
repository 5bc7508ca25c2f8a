//! The check itself: from a `CheckRequest` to a `CheckResponse`, without waiting for anything.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use quick_cache::sync::Cache;
use scoregate_authz::{Policy, Proof, ProofCache, Rules, Trace, Verdict};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

use super::answer::Answers;
use super::in_force::InForce;
use super::metrics::CheckMetrics;
use super::refusals::RefusalLog;
use super::request::HttpView;
use crate::clock::Clock;
use crate::fault;
use crate::proto::envoy::service::auth::v3::authorization_server::Authorization;
use crate::proto::envoy::service::auth::v3::{CheckRequest, CheckResponse};

/// Decides about requests.
pub(crate) trait Decide: Send + Sync + 'static {
    /// The verdict on a request, which is `None` where it is not about HTTP.
    fn decide(&self, request: Option<HttpView<'_>>) -> Verdict;
}

/// The core with what it decides from: rules, the snapshot in force, the time, and the tokens that were proven.
#[derive(Debug)]
pub(crate) struct Decider {
    rules: Rules,
    in_force: Arc<InForce>,
    proofs: Proofs,
    clock: Arc<dyn Clock>,
}

impl Decider {
    pub(crate) fn new(
        rules: Rules,
        in_force: Arc<InForce>,
        proof_capacity: usize,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { rules, in_force, proofs: Proofs(Cache::new(proof_capacity)), clock }
    }

    /// Decides as a check does, and tells of each step. Nothing is remembered and nothing was: a token is proven anew.
    pub(crate) fn explain(&self, request: Option<HttpView<'_>>, trace: &mut impl Trace) -> Verdict {
        self.decide_with(request, &(), trace)
    }

    fn decide_with(
        &self,
        request: Option<HttpView<'_>>,
        proofs: &impl ProofCache,
        trace: &mut impl Trace,
    ) -> Verdict {
        let (snapshot, now) = (self.in_force.load(), self.clock.now());
        let policy = match snapshot.as_deref() {
            None => Policy::None,
            Some(snapshot) if self.in_force.is_stale(now) => Policy::Stale(snapshot),
            Some(snapshot) => Policy::Current(snapshot),
        };
        scoregate_authz::check(&self.rules, policy, request.as_ref(), now, proofs, trace)
    }
}

impl Decide for Decider {
    fn decide(&self, request: Option<HttpView<'_>>) -> Verdict {
        self.decide_with(request, &self.proofs, &mut ())
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
    metrics: CheckMetrics,
    refusals: RefusalLog,
}

impl<D: Decide> CheckService<D> {
    pub(crate) fn new(decider: Arc<D>, answers: Arc<Answers>, metrics: CheckMetrics) -> Self {
        Self { decider, answers, metrics, refusals: RefusalLog::new() }
    }

    fn answer(&self, request: &CheckRequest) -> CheckResponse {
        let begun = Instant::now();
        let request = HttpView::new(request);
        let verdict = self.decide(request);
        let response = self.answers.answer(&verdict, request);
        self.metrics.seconds.observe(begun.elapsed());
        self.metrics.decided(&verdict);
        self.refusals.note(&verdict, request);
        response
    }

    /// A panic is a verdict of its own, for this request only.
    fn decide(&self, request: Option<HttpView<'_>>) -> Verdict {
        // Unwind safe: what a check shares with others are a snapshot that it cannot change, and a cache that is
        // consistent at each of its steps.
        let decide = || {
            fault::within_decision();
            self.decider.decide(request)
        };
        catch_unwind(AssertUnwindSafe(decide)).unwrap_or_else(|_| {
            self.metrics.panics.inc();
            Verdict::internal()
        })
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
        Ok(Response::new(self.answer(request.get_ref())))
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
        fn decide(&self, request: Option<HttpView<'_>>) -> Verdict {
            assert!(request.is_none(), "a fault for the test");
            let decision = Decision::Deny(Denial { reason: DenyReason::NoHttp, credential_presented: false });
            Verdict { decision, service: None, revision: 0 }
        }
    }

    fn service() -> (CheckService<PanicsOnHttp>, Metrics) {
        let metrics = Metrics::default();
        let checks = GateMetrics::register(&metrics, Arc::new(crate::clock::SystemClock)).checks;
        let answers = Answers::new("r", &CredentialHeaders::default(), UndecidedAnswer::DeniedResponse);
        (CheckService::new(Arc::new(PanicsOnHttp), Arc::new(answers), checks), metrics)
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
        let failed = service.answer(&http_request());
        assert_eq!((http_status(&failed), failed.status.unwrap().code), (503, 14));
        assert_eq!(http_status(&service.answer(&CheckRequest::default())), 400);
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
        let decider = Decider::new(rules, policy, 10, Arc::new(crate::clock::SystemClock));
        let metrics = GateMetrics::register(&Metrics::default(), Arc::new(crate::clock::SystemClock));
        let answers = Answers::new("r", &CredentialHeaders::default(), UndecidedAnswer::DeniedResponse);
        let service = CheckService::new(Arc::new(decider), Arc::new(answers), metrics.checks);
        let log = logged(|| drop(service.answer(&request)));
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(
            log.contains(r#"reason="unknown_service""#) && log.contains(r#"request_id="id-1forged""#),
            "{log}"
        );
        assert!(!log.contains("secret"), "{log}");
    }
}
