//! What a caller sees.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, SERVER, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};

use super::finding::{Code, Report};

/// Looks like a key, and is none: its checksum is wrong.
const WRONG_KEY: &str = "sgk_doctor-looks-whether-a-wrong-key-is-refused";

/// A service, as its callers reach it.
pub(super) struct Scoring<'a> {
    pub(super) http: reqwest::Client,
    pub(super) url: String,
    pub(super) headers: &'a [String],
    /// A right one.
    pub(super) credential: Option<SecretString>,
    /// No credential is needed: that is told elsewhere.
    pub(super) is_open: bool,
}

/// Who answered a request that should be refused.
#[derive(Debug, PartialEq, Eq)]
enum By {
    /// The gate refused it.
    Gate,
    /// Envoy, without a decision.
    Envoy(StatusCode),
    /// Somebody behind.
    Model(StatusCode),
}

impl By {
    fn of(response: &Response) -> Self {
        let challenge = response.headers().get(WWW_AUTHENTICATE).map_or(&b""[..], |value| value.as_bytes());
        match response.status() {
            StatusCode::UNAUTHORIZED if challenge.starts_with(b"Bearer") => Self::Gate,
            // What Envoy says for a gate that does not answer (`status_on_error`; 403 unless it is set), and the gate for
            // what it cannot decide.
            status @ (StatusCode::FORBIDDEN
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => Self::Envoy(status),
            status => Self::Model(status),
        }
    }
}

impl Scoring<'_> {
    pub(super) async fn look(&self, report: &mut Report) {
        if self.is_open {
            report
                .unseen("whether callers without a right credential are refused: nobody is, at this service");
        } else if self.look_without_right(report).await.is_none() {
            return;
        }
        match &self.credential {
            Some(credential) => self.look_with(credential, report).await,
            None => report
                .unseen("whether a right credential is accepted: --scoring-credential-file, or --workspace and --service"),
        }
    }

    /// `None` if there is nobody to ask, or nobody who decides.
    async fn look_without_right(&self, report: &mut Report) -> Option<()> {
        let without = self.send(None).await.map_err(|error| self.unreachable(&error, report)).ok()?;
        match By::of(&without) {
            By::Gate => {}
            By::Envoy(status) => {
                let problem = format!("a request without a credential is answered {status}: nobody decides");
                report.found(Code::NoDecision, &self.url, problem);
                return None;
            }
            By::Model(status) => {
                let problem =
                    format!("a request without a credential is answered {status}, and not by the gate");
                report.found(Code::NotProtected, &self.url, problem);
            }
        }
        let wrong =
            self.send(Some(WRONG_KEY)).await.map_err(|error| self.unreachable(&error, report)).ok()?;
        if let By::Model(status) = By::of(&wrong) {
            let problem = format!("a request with a wrong key is answered {status}, and not by the gate");
            report.found(Code::WrongCredentialAccepted, &self.url, problem);
        }
        Some(())
    }

    async fn look_with(&self, credential: &SecretString, report: &mut Report) {
        let credential = credential.expose_secret();
        let answer = match self.send(Some(credential)).await {
            Ok(answer) => answer,
            Err(error) => return self.unreachable(&error, report),
        };
        match By::of(&answer) {
            By::Gate => {
                report.found(Code::RightCredentialRefused, &self.url, "the gate refuses a right credential");
                return;
            }
            By::Envoy(status) if !came_from_behind(&answer) => {
                let problem =
                    format!("a request with a right credential is answered {status}, and not by the model");
                report.found(Code::ModelUnreachable, &self.url, problem);
                return;
            }
            By::Envoy(_) | By::Model(_) => {}
        }
        let in_headers = shows(answer.headers(), credential);
        let body = answer.bytes().await.unwrap_or_default();
        let in_body = body.windows(credential.len()).any(|window| window == credential.as_bytes());
        if in_headers || in_body {
            report.found(Code::CredentialLeaks, &self.url, "the answer repeats the caller's credential");
        }
    }

    async fn send(&self, credential: Option<&str>) -> Result<Response, reqwest::Error> {
        let request = self.http.post(&self.url).header(CONTENT_TYPE, "application/json").body("{}");
        let name = self.headers.first().map_or(AUTHORIZATION.as_str(), String::as_str);
        let request = match credential {
            Some(credential) if name.eq_ignore_ascii_case(AUTHORIZATION.as_str()) => {
                request.bearer_auth(credential)
            }
            Some(credential) => request.header(name, credential),
            None => request,
        };
        request.send().await
    }

    fn unreachable(&self, error: &reqwest::Error, report: &mut Report) {
        report.found(Code::EnvoyUnreachable, &self.url, crate::causes::with_causes(error));
    }
}

/// Whether Envoy passed it on. A model, too, may answer what is no request of its own with a 500.
fn came_from_behind(response: &Response) -> bool {
    let is_envoys = response.headers().get(SERVER).is_some_and(|server| server == "envoy");
    !is_envoys || response.headers().contains_key("x-envoy-upstream-service-time")
}

fn shows(headers: &HeaderMap, credential: &str) -> bool {
    headers
        .values()
        .any(|value| value.as_bytes().windows(credential.len()).any(|window| window == credential.as_bytes()))
}
