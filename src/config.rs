//! Configuration: validated before anything else happens.
//!
//! Read as a [`Shape`] from [`Sources`], then turned into what each role needs. An error names the key and where its
//! value came from.

mod secrets;
mod shape;
mod sources;
mod tls;
mod validate;

pub use secrets::{DataDir, DataDirError, write_secret};
pub use shape::{LogFormat, Retention, Shape, Time};
pub use sources::{ENVIRONMENT_PREFIX, Sources};
pub use validate::{
    DATABASE, Embedded, gate, log_and_shutdown, workspace, workspace_as_it_is, workspace_rehearsal,
};
pub(crate) use validate::{is_base_url, pepper_file, policy_key_file, without_user};

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use scoregate_authz::{CredentialHeaders, Pepper, Peppers, PortRule, TargetSource, TokenAlgorithm};
use secrecy::SecretString;

use crate::causes::with_causes;
use crate::gate::PolicySource;
use crate::listen::{ListenAddress, PeerAddress, SocketAccess};
use crate::policy_file::{FileError, FixedPolicy};
use crate::statement::{PolicyKey, TrustedPolicyKeys};
use crate::tls::{ClientFiles, ClientTls, ServerTls, TlsError};

/// Everything that a gate must know.
#[derive(Debug)]
pub struct GateConfig {
    /// Its name, unique in the workspace.
    pub name: String,
    /// The check port: one or more addresses.
    pub ext_authz_listen: Vec<ListenAddress>,
    /// Metrics, `/livez`, `/readyz`, gRPC health.
    pub admin_listen: ListenAddress,
    /// Policy of a file: there is no workspace, and what concerns one is not used.
    pub fixed_policy: Option<FixedPolicy>,
    /// The workspace's policy feed.
    pub feed: PeerAddress,
    /// Bearer of a gate principal; `None` where a certificate says who this is.
    pub credential: Option<SecretString>,
    /// Directory of the last good snapshot.
    pub data_dir: PathBuf,
    /// Threads that decide, each with a runtime of its own.
    pub workers: usize,
    /// How the service of a request is learned.
    pub target: TargetSource,
    /// What is done with ports in `:authority`.
    pub ports: PortRule,
    /// Where credentials are looked for.
    pub credential_headers: CredentialHeaders,
    /// Tolerated difference of clocks.
    pub clock_skew: Duration,
    /// Peppers of the installation.
    pub peppers: Peppers,
    /// Whose statements are believed.
    pub policy_keys: TrustedPolicyKeys,
    /// Where policy is looked for while the feed is away, in this order.
    pub policy_sources: Vec<PolicySource>,
    /// Where other gates may read this one's policy.
    pub peer_listen: Option<ListenAddress>,
    /// Of the check port; without it, it is plain.
    pub tls: Option<ServerTls>,
    /// Of the listener for other gates.
    pub peer_tls: Option<ServerTls>,
    /// Of the admin listener.
    pub admin_tls: Option<ServerTls>,
    /// For the feed; without it, it is plain.
    pub feed_tls: Option<Arc<ClientTls>>,
    /// For sources that are https URLs.
    pub source_tls: Option<ClientFiles>,
    /// Who may connect to the check port's Unix sockets.
    pub socket_access: SocketAccess,
    /// Nothing is decided by policy that was confirmed longer ago; `None` for any age.
    pub max_policy_age: Option<Duration>,
    /// How Envoy is told that no decision was possible.
    pub undecided: UndecidedAnswer,
    /// The `realm` of challenges.
    pub realm: String,
    /// Proven tokens that are remembered.
    pub proof_cache_capacity: usize,
    /// After this age, with jitter, a connection is told to go away.
    pub max_connection_age: Option<Duration>,
    /// gRPC reflection on the check port.
    pub reflection: bool,
    /// Where spans of checks are sent; without it, none are made. Only builds with the feature `otlp` have it.
    pub traces: Option<TraceConfig>,
}

/// Spans of checks.
#[derive(Debug)]
pub struct TraceConfig {
    /// Where the OpenTelemetry collector listens.
    pub collector: PeerAddress,
    /// Scheme and authority of the same.
    pub origin: http::Uri,
    /// For the collector; without it, the connection is plain.
    pub tls: Option<Arc<ClientTls>>,
    /// Of the checks that are no part of a trace: 0 for none, 1 for all.
    pub sample_ratio: f64,
}

/// How Envoy is told that no decision was possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UndecidedAnswer {
    /// `denied_response` with 503: fails closed on every Envoy.
    #[default]
    DeniedResponse,
    /// `error_response` with 503, for Envoy 1.37 and later: counts as an error and obeys `failure_mode_allow`.
    ErrorResponse,
}

/// Everything that a workspace must know.
#[derive(Debug, Clone)]
pub struct WorkspaceConfig {
    /// Directory of the database, keys and pepper.
    pub data_dir: PathBuf,
    /// REST.
    pub workspace_listen: ListenAddress,
    /// The policy feed.
    pub feed_listen: ListenAddress,
    /// Metrics, `/livez`, `/readyz`, gRPC health.
    pub admin_listen: ListenAddress,
    /// Where it stands in Azure's tree of resources.
    pub scope: WorkspaceScope,
    /// Base of the URLs that it gives out; made from the listener where it is not set.
    pub public_url: Option<String>,
    /// The public address of Envoy, from which scoring URIs are made; without one they are null.
    pub scoring_base_url: Option<String>,
    /// The `iss` of tokens; made from the workspace's id where it is not set.
    pub issuer: Option<String>,
    /// From issue to the time when a client should fetch a new token.
    pub token_refresh_after: Duration,
    /// From issue to expiry.
    pub token_lifetime: Duration,
    /// Algorithm of new signing keys.
    pub token_algorithm: TokenAlgorithm,
    /// Keys are digested under this one.
    pub pepper: Pepper,
    /// What signs the statements that gates believe.
    pub policy_key: Arc<PolicyKey>,
    /// What wraps the data keys: the first wraps new ones, all unwrap.
    pub master_keys: MasterKeys,
    /// For how long a regeneration waits for the gates.
    pub enforcement_timeout: Duration,
    /// The age at which a signing key makes way for the next one; `None` for never.
    pub signing_key_rotation: Option<Duration>,
    /// For how long audit records are kept; `None` for ever.
    pub audit_retention: Option<Duration>,
    /// Of the REST; without it, it is plain HTTP.
    pub tls: Option<ServerTls>,
    /// Of the policy feed.
    pub feed_tls: Option<ServerTls>,
    /// Of the admin listener.
    pub admin_tls: Option<ServerTls>,
}

/// `/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.MachineLearningServices/workspaces/{name}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceScope {
    /// Subscription id.
    pub subscription: String,
    /// Resource group.
    pub resource_group: String,
    /// Name of the workspace.
    pub name: String,
}

impl std::fmt::Display for WorkspaceScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { subscription, resource_group, name } = self;
        write!(
            f,
            "/subscriptions/{subscription}/resourceGroups/{resource_group}\
             /providers/Microsoft.MachineLearningServices/workspaces/{name}"
        )
    }
}

/// 256-bit keys by their ids.
#[derive(Clone)]
pub struct MasterKeys {
    /// Id of the one that wraps new data keys.
    pub current: String,
    /// All of them.
    pub keys: HashMap<String, zeroize::Zeroizing<[u8; 32]>>,
}

impl std::fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterKeys").field("current", &self.current).finish_non_exhaustive()
    }
}

/// Configuration that cannot be used. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file `{}` is not TOML: {problem}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// One key is wrong.
    #[error("`{key}` ({origin}): {problem}")]
    Key {
        /// Its full path.
        key: String,
        /// File, environment variable, flag or default.
        origin: String,
        /// What is wrong.
        problem: Problem,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
}

/// What can be wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No such key.
    #[error("there is no such key")]
    UnknownKey,
    /// A value of the wrong form, or outside its range.
    #[error("{0}")]
    Form(String),
    /// Needed and not there.
    #[error("needed, and not set: {0}")]
    Missing(&'static str),
    /// Reachable from other machines without encryption.
    #[error(
        "`{address}` can be reached from other machines without TLS: set `{table}.certificate_file` and \
         `{table}.key_file`, use a loopback address or a Unix socket, or set `insecure = true` if the network itself is \
         trusted"
    )]
    Insecure {
        /// Where.
        address: ListenAddress,
        /// The table of keys that would help.
        table: &'static str,
    },
    /// Reachable by anybody, where only proxies or gates belong.
    #[error(
        "`{address}` can be reached from other machines by anybody: set `{table}.client_ca_file` for client certificates, \
         use a loopback address or a Unix socket, or set `insecure = true` if the network itself is trusted"
    )]
    WithoutClientCertificates {
        /// Where.
        address: ListenAddress,
        /// The table of keys that would help.
        table: &'static str,
    },
    /// A certificate or a key that does not do.
    #[error(transparent)]
    Tls(TlsError),
    /// The credential of the gate would travel without encryption.
    #[error(
        "`{0}` is on another machine and without TLS: the gate's credential could be read on the way; set \
         `gate.feed_tls.ca_file`, or `insecure = true` if the network itself is trusted"
    )]
    InsecureFeed(PeerAddress),
    /// Policy would be read over a network without encryption.
    #[error(
        "`{0}` is on another machine and without TLS: use https, or set `insecure = true` if the network itself is \
         trusted"
    )]
    InsecureSource(Box<PolicySource>),
    /// Spans would travel over a network without encryption.
    #[error(
        "`{0}` is on another machine and without TLS: use https and `telemetry.otlp_tls.ca_file`, or set \
         `telemetry.otlp_insecure = true` if the network itself is trusted"
    )]
    InsecureCollector(PeerAddress),
    /// For something that this program was built without.
    #[error(
        "this program was built without traces, the cargo feature `{0}`: leave the key out, or build with it"
    )]
    WithoutFeature(&'static str),
    /// A policy file that cannot be used.
    #[error("{}", with_causes(.0))]
    PolicyFile(FileError),
    /// A file that holds a secret cannot be used.
    #[error("the file `{}` {problem}", path.display())]
    SecretFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
}

/// What every process has.
#[derive(Debug)]
pub struct ProcessConfig {
    /// Filter of log lines.
    pub log_level: String,
    /// Their form.
    pub log_format: LogFormat,
    /// From "not ready" to closing the listeners.
    pub drain_delay: Duration,
    /// For what still runs then.
    pub deadline: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(variables: &[(&str, &str)]) -> Sources {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Sources::new(None, variables.iter().map(owned))
    }

    fn message(sources: &Sources) -> String {
        let shape = match sources.read() {
            Ok(shape) => shape,
            Err(error) => return error.to_string(),
        };
        let policy_key = PolicyKey::from_pem(&PolicyKey::generate().unwrap()).unwrap().public();
        let pepper = Pepper::new(&[1; 32]).unwrap();
        let embedded = Embedded { credential: SecretString::default(), pepper, policy_key };
        match gate(&shape, sources, std::path::Path::new("unused"), Some(embedded)) {
            Ok(_) => "valid".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(message(&sources(&[])), "valid");
    }

    #[test]
    fn environment_reaches_every_form_of_value() {
        let sources = sources(&[
            ("SCOREGATE__GATE__WORKERS", "3"),
            ("SCOREGATE__GATE__CLOCK_SKEW", "10s"),
            ("SCOREGATE__GATE__TARGET", "host_path"),
            ("SCOREGATE__GATE__EXT_AUTHZ_LISTEN", "127.0.0.1:0,unix:/run/gate.sock"),
            ("SCOREGATE__GATE__REFLECTION", "true"),
            ("SCOREGATE_PORT", "tcp://10.0.0.1:80"),
        ]);
        let shape = sources.read().unwrap();
        assert_eq!(shape.gate.workers, Some(3));
        assert_eq!(shape.gate.clock_skew, Time::seconds(10));
        assert_eq!(shape.gate.target, TargetSource::HostPath);
        assert_eq!(shape.gate.ext_authz_listen, ["127.0.0.1:0", "unix:/run/gate.sock"]);
        assert!(shape.gate.reflection);
        assert_eq!(message(&sources), "valid");
    }

    #[test]
    fn flags_win_over_the_environment() {
        let sources = sources(&[("SCOREGATE__GATE__NAME", "from-environment")]).flag(
            "--name",
            "gate.name",
            Some("from-flag"),
        );
        assert_eq!(sources.read().unwrap().gate.name.as_deref(), Some("from-flag"));
    }

    #[rstest::rstest]
    #[case(
        "SCOREGATE__GATE__WORKER",
        "2",
        "`gate.worker` (environment variable `SCOREGATE__GATE__WORKER`): there is no such key"
    )]
    #[case(
        "SCOREGATE__GATEWAY",
        "2",
        "`gateway` (environment variable `SCOREGATE__GATEWAY`): there is no such key"
    )]
    #[case(
        "SCOREGATE__GATE__WORKERS",
        "0",
        "`gate.workers` (environment variable `SCOREGATE__GATE__WORKERS`): 0 is not between 1 and 1024"
    )]
    #[case(
        "SCOREGATE__GATE__CLOCK_SKEW",
        "61s",
        "`gate.clock_skew` (environment variable `SCOREGATE__GATE__CLOCK_SKEW`): 1m 1s is not between 0s and 1m"
    )]
    #[case(
        "SCOREGATE__GATE__CLOCK_SKEW",
        "soon",
        "`gate.clock_skew` (environment variable `SCOREGATE__GATE__CLOCK_SKEW`): `soon` is not a duration such as `90s`, `1h 30m` or `500ms`"
    )]
    #[case(
        "SCOREGATE__GATE__EXT_AUTHZ_LISTEN",
        "0.0.0.0:9191",
        "`gate.ext_authz_listen` (environment variable `SCOREGATE__GATE__EXT_AUTHZ_LISTEN`): `0.0.0.0:9191` can be reached from other machines without TLS: set `gate.tls.certificate_file` and `gate.tls.key_file`, use a loopback address or a Unix socket, or set `insecure = true` if the network itself is trusted"
    )]
    #[case(
        "SCOREGATE__GATE__CREDENTIAL_HEADERS",
        "X-Key",
        "`gate.credential_headers` (environment variable `SCOREGATE__GATE__CREDENTIAL_HEADERS`): `X-Key` is not the name of a header in lower case"
    )]
    fn an_error_names_key_and_source(#[case] variable: &str, #[case] value: &str, #[case] expected: &str) {
        assert_eq!(message(&sources(&[(variable, value)])), expected);
    }

    #[rstest::rstest]
    #[case("SCOREGATE__GATE__WORKERS", "many", "gate.workers")]
    #[case("SCOREGATE__GATE__TARGET", "guess", "gate.target")]
    #[case("SCOREGATE__GATE__REFLECTION", "perhaps", "gate.reflection")]
    fn a_value_of_the_wrong_form_names_key_and_source(
        #[case] variable: &str,
        #[case] value: &str,
        #[case] key: &str,
    ) {
        let message = message(&sources(&[(variable, value)]));
        assert!(message.starts_with(&format!("`{key}` (environment variable `{variable}`): ")), "{message}");
    }

    #[test]
    fn a_file_is_named_where_its_value_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scoregate.toml");
        std::fs::write(&path, "[gate]\nclock_skew = \"2m\"\n").unwrap();
        let message = message(&Sources::new(Some(path.clone()), []));
        assert_eq!(
            message,
            format!("`gate.clock_skew` (file `{}`): 2m is not between 0s and 1m", path.display())
        );
    }

    #[test]
    fn a_file_that_is_not_toml_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scoregate.toml");
        std::fs::write(&path, "gate = [\n").unwrap();
        let message = message(&Sources::new(Some(path.clone()), []));
        assert!(message.starts_with(&format!("the configuration file `{}` is not TOML: ", path.display())));
    }
}
