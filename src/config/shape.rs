//! The configuration as it is written: file, environment and flags, before anything is checked but its form.
//!
//! Unknown keys are refused where this is read (`sources`), with their full path.

use std::fmt;
use std::time::Duration;

use scoregate_authz::{PortRule, TargetSource};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::UndecidedAnswer;

/// All keys. What is `None` has a default that depends on the role or on other keys.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Shape {
    /// Directory of all state.
    pub data_dir: Option<String>,
    /// Whether listeners without TLS may be reached from other machines.
    pub insecure: bool,
    pub log: Log,
    pub admin: Admin,
    pub shutdown: Shutdown,
    pub telemetry: Telemetry,
    pub gate: Gate,
    pub workspace: Workspace,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Log {
    /// `off`, `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,scoregate::gate=debug`.
    pub level: String,
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Pretty }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Admin {
    pub listen: String,
    pub tls: ServerTls,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9192".to_owned(), tls: ServerTls::default() }
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Shutdown {
    /// From "not ready" to closing the listeners: what a load balancer needs to notice.
    pub drain_delay: Time,
    /// For what still runs then.
    pub deadline: Time,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain_delay: Time::seconds(2), deadline: Time::seconds(10) }
    }
}

/// Spans of checks, for builds with the feature `otlp`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Telemetry {
    /// `https://HOST:PORT` of an OpenTelemetry collector, or `http://HOST:PORT`: OTLP in gRPC.
    pub otlp_endpoint: Option<String>,
    /// Whether plain http may leave this machine.
    pub otlp_insecure: bool,
    pub otlp_tls: ClientTls,
    /// Of the checks that are no part of a trace; from 0, none, to 1, all.
    pub sample_ratio: f64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Gate {
    /// Unique among the gates of a workspace; by default the host's name.
    pub name: Option<String>,
    pub ext_authz_listen: Vec<String>,
    pub feed: String,
    pub credential_file: Option<String>,
    /// The first one is that of new keys.
    pub pepper_files: Vec<String>,
    /// Policy is believed only if one of these signed it.
    pub policy_key_files: Vec<String>,
    /// Where policy is looked for while the feed is away, in this order.
    pub policy_sources: Vec<String>,
    /// Where other gates may read this one's policy.
    pub peer_listen: Option<String>,
    /// Of the check port.
    pub tls: ServerTls,
    pub peer_tls: ServerTls,
    pub feed_tls: ClientTls,
    /// For sources that are https URLs.
    pub source_tls: ClientTls,
    /// Of the check port's Unix sockets: octal digits.
    pub socket_mode: String,
    /// Id of their group.
    pub socket_group: Option<u32>,
    /// Nothing is decided by policy that was confirmed longer ago.
    pub max_policy_age: Retention,
    /// In place of a workspace.
    pub policy_file: Option<String>,
    /// By default the number of cores.
    pub workers: Option<usize>,
    #[serde(with = "TargetSourceShape")]
    pub target: TargetSource,
    #[serde(with = "PortRuleShape")]
    pub ports: PortRule,
    pub credential_headers: Vec<String>,
    pub clock_skew: Time,
    pub undecided: UndecidedAnswer,
    pub realm: String,
    pub proof_cache_capacity: usize,
    /// `0s` for never.
    pub max_connection_age: Time,
    pub reflection: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            name: None,
            ext_authz_listen: vec!["127.0.0.1:9191".to_owned()],
            feed: "127.0.0.1:9193".to_owned(),
            credential_file: None,
            pepper_files: Vec::new(),
            policy_key_files: Vec::new(),
            policy_sources: Vec::new(),
            peer_listen: None,
            tls: ServerTls::default(),
            peer_tls: ServerTls::default(),
            feed_tls: ClientTls::default(),
            source_tls: ClientTls::default(),
            socket_mode: "0660".to_owned(),
            socket_group: None,
            max_policy_age: Retention::days(1),
            policy_file: None,
            workers: None,
            target: TargetSource::ContextExtensions,
            ports: PortRule::Any,
            credential_headers: vec!["authorization".to_owned()],
            clock_skew: Time::seconds(5),
            undecided: UndecidedAnswer::DeniedResponse,
            realm: "scoregate".to_owned(),
            proof_cache_capacity: 10_000,
            max_connection_age: Time::seconds(0),
            reflection: false,
        }
    }
}

/// The names of [`TargetSource`] in configuration.
#[derive(Deserialize, Serialize)]
#[serde(remote = "TargetSource", rename_all = "snake_case")]
enum TargetSourceShape {
    ContextExtensions,
    HostPath,
}

/// The names of [`PortRule`] in configuration.
#[derive(Deserialize, Serialize)]
#[serde(remote = "PortRule", rename_all = "snake_case")]
enum PortRuleShape {
    Any,
    Standard,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Workspace {
    pub listen: String,
    pub feed_listen: String,
    pub subscription: String,
    pub resource_group: String,
    pub name: String,
    /// Where clients reach the REST listener; by default its address.
    pub public_url: Option<String>,
    pub scoring_base_url: Option<String>,
    pub issuer: Option<String>,
    pub token_refresh_after: Time,
    pub token_lifetime: Time,
    pub token_algorithm: String,
    /// By default `master-key` in the data directory, made at the first start.
    pub master_key_file: Option<String>,
    /// By default `pepper` in the data directory, made at the first start.
    pub pepper_file: Option<String>,
    /// By default `policy-key` in the data directory, made at the first start.
    pub policy_key_file: Option<String>,
    pub enforcement_timeout: Time,
    pub signing_key_rotation: Retention,
    pub audit_retention: Retention,
    /// Of the REST.
    pub tls: ServerTls,
    pub feed_tls: ServerTls,
    /// In place of the files, for environments that hand secrets over as variables.
    #[serde(skip_serializing)]
    pub master_key: Option<String>,
    #[serde(skip_serializing)]
    pub pepper: Option<String>,
    #[serde(skip_serializing)]
    pub policy_key: Option<String>,
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8181".to_owned(),
            feed_listen: "127.0.0.1:9193".to_owned(),
            subscription: "00000000-0000-0000-0000-000000000000".to_owned(),
            resource_group: "scoregate".to_owned(),
            name: "scoregate".to_owned(),
            public_url: None,
            scoring_base_url: None,
            issuer: None,
            token_refresh_after: Time::seconds(3600),
            token_lifetime: Time::seconds(12 * 3600),
            token_algorithm: "ES256".to_owned(),
            master_key_file: None,
            pepper_file: None,
            policy_key_file: None,
            enforcement_timeout: Time::seconds(10),
            signing_key_rotation: Retention::days(30),
            audit_retention: Retention::days(400),
            tls: ServerTls::default(),
            feed_tls: ServerTls::default(),
            master_key: None,
            pepper: None,
            policy_key: None,
        }
    }
}

/// Of a listener.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ServerTls {
    /// PEM: the server's certificate, then those that lead to its CA.
    pub certificate_file: Option<String>,
    /// PEM. Both or none.
    pub key_file: Option<String>,
    /// PEM: CAs of clients. Where it is set, clients need a certificate.
    pub client_ca_file: Option<String>,
    /// Names that their certificates must have, one of them.
    pub allowed_peers: Vec<String>,
}

/// Of a client.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ClientTls {
    /// PEM: CAs that are trusted, and no others. Where it is set, TLS is spoken.
    pub ca_file: Option<String>,
    /// PEM: what the client proves itself with.
    pub certificate_file: Option<String>,
    /// PEM. Both or none.
    pub key_file: Option<String>,
    /// The name in the server's certificate, where it is not the host's.
    pub server_name: Option<String>,
}

/// A duration written as `90s`, `1h 30m` or `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl Time {
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl std::str::FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a duration such as `90s`, `1h 30m` or `500ms`"))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// As it may be written.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(duration) => write!(f, "{duration:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// For how long something is kept: whole days, such as `400d`, any other [`Time`], or `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention(pub Option<Duration>);

impl Retention {
    const UNLIMITED: &'static str = "unlimited";
    const DAY: u64 = 24 * 3600;

    /// Days of 24 hours.
    pub const fn days(days: u32) -> Self {
        Self(Some(Duration::from_secs(days as u64 * Self::DAY)))
    }
}

impl std::str::FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == Self::UNLIMITED {
            return Ok(Self(None));
        }
        // Not among the units of durations, since civil days differ.
        if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse().ok()) {
            return Ok(Self::days(days));
        }
        let time: Result<Time, _> = text.parse();
        time.map(|Time(time)| Self(Some(time)))
            .map_err(|_| format!("`{text}` is neither a duration such as `400d` or `36h` nor `unlimited`"))
    }
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Retention {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_str(Self::UNLIMITED),
            Some(time) if time.as_secs().is_multiple_of(Self::DAY) => {
                serializer.collect_str(&format_args!("{}d", time.as_secs() / Self::DAY))
            }
            Some(time) => Time(time).serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_are_read() {
        for text in ["0s", "500ms", "2s", "1m", "12h", "1h 30m", "1500ms"] {
            let time: Time = text.parse().unwrap();
            assert_eq!(time.to_string().parse(), Ok(time), "{text}");
        }
        assert_eq!(Time::seconds(43_200).to_string(), "12h");
        assert_eq!(Time::seconds(0).to_string(), "0s");
    }

    #[test]
    fn retention_is_read_and_written() {
        for (text, days) in [("400d", Some(400)), ("48h", Some(2)), ("unlimited", None)] {
            let read: Retention = text.parse().unwrap();
            assert_eq!(read, days.map_or(Retention(None), Retention::days), "{text}");
        }
        let written = |retention| serde_json::to_value(retention).unwrap();
        assert_eq!(written(Retention::days(400)), "400d");
        assert_eq!(written(Retention(None)), "unlimited");
        assert_eq!(written(Retention(Some(Duration::from_secs(90_000)))), "25h");
        for text in ["", "d", "-1d", "1.5d", "forever", "99999999999d"] {
            assert!(text.parse::<Retention>().is_err(), "{text}");
        }
    }
}
