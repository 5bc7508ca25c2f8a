//! From what is written to what a role can rely on.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use scoregate_authz::{CredentialHeaders, MAX_CLOCK_SKEW, Pepper, Peppers, TokenAlgorithm};
use secrecy::SecretString;
use tracing_subscriber::filter::{LevelFilter, Targets};
use zeroize::Zeroizing;

use super::secrets::{
    FirstStart, master_keys, pepper, peppers_of_nobody, random_secret, read_or_make_secret, read_secret,
};
use super::shape::{Retention, Shape, Time};
use super::tls::{self, Certificates, Table};
use super::{
    ConfigError, DataDir, GateConfig, MasterKeys, Problem, ProcessConfig, Sources, TraceConfig,
    WorkspaceConfig, WorkspaceScope,
};
use crate::gate::PolicySource;
use crate::listen::{ListenAddress, PeerAddress, SocketAccess};
use crate::policy_file::{FixedPolicy, Seen};
use crate::statement::{PolicyKey, PolicyPublicKey, TrustedPolicyKeys};
use crate::tls::ServerTls;

/// Name of the workspace's database in its data directory.
pub const DATABASE: &str = "workspace.db";

/// What every process has.
///
/// # Errors
/// A key that cannot be as it is.
pub fn log_and_shutdown(shape: &Shape, sources: &Sources) -> Result<ProcessConfig, ConfigError> {
    let hour = Duration::from_secs(3600);
    check_log_level(&shape.log.level)
        .map_err(|problem| sources.error("log.level", Problem::Form(problem)))?;
    Ok(ProcessConfig {
        log_level: shape.log.level.clone(),
        log_format: shape.log.format,
        drain_delay: within(
            sources,
            "shutdown.drain_delay",
            shape.shutdown.drain_delay,
            Duration::ZERO..=hour,
        )?,
        deadline: within(sources, "shutdown.deadline", shape.shutdown.deadline, Duration::ZERO..=hour)?,
    })
}

/// A directive without a level would be read as the name of a target: `verbose` as a log of nothing else.
fn check_log_level(filter: &str) -> Result<(), String> {
    filter.parse::<Targets>().map_err(|error| error.to_string())?;
    for directive in filter.split(',') {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(format!("`{directive}` is neither a level such as `info` nor a `target=level`"));
        }
    }
    Ok(())
}

/// What a gate is given by the workspace in its own process.
#[derive(Debug)]
pub struct Embedded {
    /// For the feed.
    pub credential: SecretString,
    /// Under which keys are digested.
    pub pepper: Pepper,
    /// Which proves policy.
    pub policy_key: PolicyPublicKey,
}

/// What a gate needs. `embedded` gives its secrets where the workspace is in the same process.
///
/// # Errors
/// A key that cannot be as it is.
pub fn gate(
    shape: &Shape,
    sources: &Sources,
    data_dir: &Path,
    embedded: Option<Embedded>,
) -> Result<GateConfig, ConfigError> {
    let gate = &shape.gate;
    let fixed = match (&gate.policy_file, embedded.is_some()) {
        (None, _) => None,
        (Some(_), true) => {
            let problem = "is for a gate by itself (`scoregate gate`), and here is a workspace";
            return Err(sources.error(POLICY_FILE, Problem::Form(problem.to_owned())));
        }
        (Some(path), false) => Some(Path::new(path)),
    };
    let secrets = match (fixed, embedded) {
        (Some(_), _) => secrets_of_a_fixed_gate(shape, sources)?,
        (None, Some(embedded)) => GateSecrets {
            credential: Some(embedded.credential),
            peppers: some_pepper(sources, vec![embedded.pepper])?,
            policy_keys: some_policy_key(sources, vec![embedded.policy_key])?,
        },
        (None, None) => GateSecrets {
            credential: gate_credential(shape, sources)?,
            peppers: some_pepper(sources, gate_peppers(shape, sources)?)?,
            policy_keys: some_policy_key(sources, gate_policy_keys(shape, sources)?)?,
        },
    };
    let GateSecrets { credential, peppers, policy_keys } = secrets;
    let workers = match gate.workers {
        Some(workers) => number(sources, "gate.workers", workers, 1..=1024)?,
        None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let form = |key: &'static str| move |problem: String| sources.error(key, Problem::Form(problem));
    if gate.realm.is_empty() || !gate.realm.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(form("gate.realm")("must be printable ASCII characters".to_owned()));
    }
    let longest = Duration::from_secs(7 * 24 * 3600);
    let age = within(sources, "gate.max_connection_age", gate.max_connection_age, Duration::ZERO..=longest)?;
    let table = |name, shape_of| Table { sources, name, shape: shape_of, insecure: shape.insecure };
    let check = table("gate.tls", &gate.tls);
    let peers = table("gate.peer_tls", &gate.peer_tls);
    let admin = table("admin.tls", &shape.admin.tls);
    let tls = check.server(Certificates::Needed)?;
    let peer_tls = peers.server(Certificates::Needed)?;
    let admin_tls = admin.server(Certificates::ForSomeRoutes)?;
    let peer_listen = gate.peer_listen.as_deref();
    let feed_tls = tls::client(sources, "gate.feed_tls", &gate.feed_tls)?;
    Ok(GateConfig {
        name: gate_name(shape, sources)?,
        ext_authz_listen: check_ports(shape, &check, tls.as_ref())?,
        admin_listen: admin.listen("admin.listen", &shape.admin.listen, admin_tls.as_ref())?,
        fixed_policy: fixed.map(|path| fixed_policy(sources, path, &peppers)).transpose()?,
        feed: feed_address(shape, sources, feed_tls.is_some())?,
        credential,
        data_dir: data_dir.to_owned(),
        workers,
        target: gate.target,
        ports: gate.ports,
        credential_headers: CredentialHeaders::new(gate.credential_headers.clone())
            .map_err(|error| form("gate.credential_headers")(error.to_string()))?,
        clock_skew: within(sources, "gate.clock_skew", gate.clock_skew, Duration::ZERO..=MAX_CLOCK_SKEW)?,
        peppers,
        policy_keys,
        policy_sources: policy_sources(shape, sources)?,
        peer_listen: peer_listen
            .map(|text| peers.listen_for_known("gate.peer_listen", text, peer_tls.as_ref()))
            .transpose()?,
        tls,
        peer_tls,
        admin_tls,
        feed_tls: feed_tls.map(Arc::new),
        source_tls: tls::client_files(sources, "gate.source_tls", &gate.source_tls)?,
        socket_access: socket_access(shape, sources)?,
        max_policy_age: max_policy_age(shape, sources)?,
        undecided: gate.undecided,
        realm: gate.realm.clone(),
        proof_cache_capacity: number(
            sources,
            "gate.proof_cache_capacity",
            gate.proof_cache_capacity,
            0..=10_000_000,
        )?,
        max_connection_age: (!age.is_zero()).then_some(age),
        reflection: gate.reflection,
        traces: traces(shape, sources)?,
    })
}

/// What a gate proves itself with, and proves others by.
struct GateSecrets {
    credential: Option<SecretString>,
    peppers: Peppers,
    policy_keys: TrustedPolicyKeys,
}

const POLICY_FILE: &str = "gate.policy_file";

/// A workspace and a file cannot both say what the policy is.
fn secrets_of_a_fixed_gate(shape: &Shape, sources: &Sources) -> Result<GateSecrets, ConfigError> {
    let of_a_workspace = [
        "gate.feed",
        "gate.credential_file",
        "gate.policy_key_files",
        "gate.policy_sources",
        "gate.peer_listen",
        "gate.max_policy_age",
        "gate.feed_tls.ca_file",
        "gate.feed_tls.certificate_file",
        "gate.source_tls.ca_file",
        "gate.source_tls.certificate_file",
        "gate.peer_tls.certificate_file",
    ];
    if let Some(key) = of_a_workspace.into_iter().find(|key| sources.is_set(key)) {
        let problem = "is for a gate with a workspace, and `gate.policy_file` (--policy) is set too: leave one of them out";
        return Err(sources.error(key, Problem::Form(problem.to_owned())));
    }
    let peppers = gate_peppers(shape, sources)?;
    let peppers = match Peppers::new(peppers) {
        Ok(peppers) => peppers,
        // No service need have keys.
        Err(_) => peppers_of_nobody().map_err(|problem| sources.error("gate.pepper_files", problem))?,
    };
    let policy_keys = TrustedPolicyKeys::none();
    Ok(GateSecrets { credential: None, peppers, policy_keys })
}

fn fixed_policy(sources: &Sources, path: &Path, peppers: &Peppers) -> Result<FixedPolicy, ConfigError> {
    FixedPolicy::read(path, 1, peppers, &mut Seen::default())
        .map_err(|error| sources.error(POLICY_FILE, Problem::PolicyFile(error)))
}

fn some_pepper(sources: &Sources, peppers: Vec<Pepper>) -> Result<Peppers, ConfigError> {
    let missing = "a file with the pepper of the workspace, see `pepper` in its data directory";
    Peppers::new(peppers).map_err(|_| sources.error("gate.pepper_files", Problem::Missing(missing)))
}

fn some_policy_key(sources: &Sources, keys: Vec<PolicyPublicKey>) -> Result<TrustedPolicyKeys, ConfigError> {
    let missing = "a file with the public policy key, see `policy-key.pub` in the workspace's data directory";
    TrustedPolicyKeys::new(keys)
        .ok_or_else(|| sources.error("gate.policy_key_files", Problem::Missing(missing)))
}

fn feed_address(shape: &Shape, sources: &Sources, has_tls: bool) -> Result<PeerAddress, ConfigError> {
    const KEY: &str = "gate.feed";
    let address: Result<PeerAddress, _> = shape.gate.feed.parse();
    let address = address.map_err(|error| sources.error(KEY, Problem::Form(error.to_string())))?;
    if has_tls || address.is_local() || shape.insecure {
        Ok(address)
    } else {
        Err(sources.error(KEY, Problem::InsecureFeed(address)))
    }
}

/// Where spans of checks are sent.
fn traces(shape: &Shape, sources: &Sources) -> Result<Option<TraceConfig>, ConfigError> {
    const ENDPOINT: &str = "telemetry.otlp_endpoint";
    const RATIO: &str = "telemetry.sample_ratio";
    let keys = [
        ENDPOINT,
        RATIO,
        "telemetry.otlp_insecure",
        "telemetry.otlp_tls.ca_file",
        "telemetry.otlp_tls.certificate_file",
        "telemetry.otlp_tls.key_file",
        "telemetry.otlp_tls.server_name",
    ];
    let Some(key) = keys.into_iter().find(|key| sources.is_set(key)) else { return Ok(None) };
    if cfg!(not(feature = "otlp")) {
        return Err(sources.error(key, Problem::WithoutFeature("otlp")));
    }
    let telemetry = &shape.telemetry;
    let Some(text) = &telemetry.otlp_endpoint else {
        let missing = Problem::Missing("the collector that the other keys of `telemetry` are about");
        return Err(sources.error(ENDPOINT, missing));
    };
    let form = |key: &str, problem: String| sources.error(key, Problem::Form(problem));
    let (origin, collector) = collector(text).ok_or_else(|| {
        form(
            ENDPOINT,
            format!("`{}` is neither `https://HOST:PORT` nor `http://HOST:PORT`", without_user(text)),
        )
    })?;
    let tls = tls::client(sources, "telemetry.otlp_tls", &telemetry.otlp_tls)?;
    match (origin.scheme_str(), &tls) {
        (Some("https"), None) => {
            let missing = Problem::Missing("the CAs that the collector's certificate may be of");
            return Err(sources.error("telemetry.otlp_tls.ca_file", missing));
        }
        (Some("http"), Some(_)) => {
            return Err(form(ENDPOINT, format!("`{text}` is without TLS, and `telemetry.otlp_tls` is set")));
        }
        (Some("http"), None) if !(collector.is_local() || telemetry.otlp_insecure || shape.insecure) => {
            return Err(sources.error(ENDPOINT, Problem::InsecureCollector(collector)));
        }
        _ => {}
    }
    let sample_ratio = telemetry.sample_ratio;
    if !(0.0..=1.0).contains(&sample_ratio) {
        return Err(form(RATIO, format!("{sample_ratio} is not between 0 and 1")));
    }
    Ok(Some(TraceConfig { collector, origin, tls: tls.map(Arc::new), sample_ratio }))
}

/// Scheme and authority, and the same as an address.
fn collector(text: &str) -> Option<(http::Uri, PeerAddress)> {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let address = authority.trim_end_matches('/').parse().ok()?;
    let is_tcp = matches!(address, PeerAddress::Tcp { .. });
    Some((text.parse().ok()?, address)).filter(|_| is_tcp)
}

fn gate_name(shape: &Shape, sources: &Sources) -> Result<String, ConfigError> {
    let name = match &shape.gate.name {
        Some(name) => name.clone(),
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map_or_else(|_| "gate".to_owned(), |name| name.trim().to_owned()),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if (1..=253).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(name);
    }
    let problem = format!("`{name}` is not a name of letters, digits, `-`, `.` and `_`");
    Err(sources.error("gate.name", Problem::Form(problem)))
}

fn check_ports(
    shape: &Shape,
    table: &Table<'_>,
    tls: Option<&ServerTls>,
) -> Result<Vec<ListenAddress>, ConfigError> {
    const KEY: &str = "gate.ext_authz_listen";
    let addresses = &shape.gate.ext_authz_listen;
    if addresses.is_empty() {
        return Err(table.sources.error(KEY, Problem::Missing("at least one address")));
    }
    addresses.iter().map(|text| table.listen_for_known(KEY, text, tls)).collect()
}

/// None is needed where a certificate says who the gate is.
fn gate_credential(shape: &Shape, sources: &Sources) -> Result<Option<SecretString>, ConfigError> {
    const KEY: &str = "gate.credential_file";
    let missing =
        Problem::Missing("a file with the credential that `principal create NAME --role gate` shows");
    let path = match &shape.gate.credential_file {
        Some(path) => path,
        None if shape.gate.feed_tls.certificate_file.is_some() => return Ok(None),
        None => return Err(sources.error(KEY, missing)),
    };
    let secret = read_secret(Path::new(path)).map_err(|problem| sources.error(KEY, problem))?;
    Ok(Some(SecretString::from(secret.as_str())))
}

fn gate_peppers(shape: &Shape, sources: &Sources) -> Result<Vec<Pepper>, ConfigError> {
    const KEY: &str = "gate.pepper_files";
    let read = |path: &String| pepper_file(Path::new(path)).map_err(|problem| sources.error(KEY, problem));
    shape.gate.pepper_files.iter().map(read).collect()
}

fn gate_policy_keys(shape: &Shape, sources: &Sources) -> Result<Vec<PolicyPublicKey>, ConfigError> {
    const KEY: &str = "gate.policy_key_files";
    let read =
        |path: &String| policy_key_file(Path::new(path)).map_err(|problem| sources.error(KEY, problem));
    shape.gate.policy_key_files.iter().map(read).collect()
}

/// The public policy key in a file.
///
/// # Errors
/// It cannot be read, or holds none.
pub(crate) fn policy_key_file(path: &Path) -> Result<PolicyPublicKey, Problem> {
    let text = read_secret(path)?;
    PolicyPublicKey::from_pem(&text).map_err(|error| file_problem(path, error.to_string()))
}

fn policy_sources(shape: &Shape, sources: &Sources) -> Result<Vec<PolicySource>, ConfigError> {
    const KEY: &str = "gate.policy_sources";
    let read = |text: &String| {
        let source: PolicySource =
            text.parse().map_err(|error| sources.error(KEY, Problem::Form(format!("{error}"))))?;
        if source.is_private() || shape.insecure {
            Ok(source)
        } else {
            Err(sources.error(KEY, Problem::InsecureSource(source.into())))
        }
    };
    shape.gate.policy_sources.iter().map(read).collect()
}

fn socket_access(shape: &Shape, sources: &Sources) -> Result<SocketAccess, ConfigError> {
    const KEY: &str = "gate.socket_mode";
    let text = &shape.gate.socket_mode;
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| text.len() <= 4 && *mode <= 0o777);
    // Not for everybody: the check port is as private as Envoy's configuration.
    let mode = mode.filter(|mode| mode & 0o007 == 0 && mode & 0o600 == 0o600).ok_or_else(|| {
        let problem =
            format!("`{text}` is not a mode such as `0660` that lets owner and group connect, at most");
        sources.error(KEY, Problem::Form(problem))
    })?;
    Ok(SocketAccess { mode, group: shape.gate.socket_group })
}

/// At least a minute: the workspace's word comes every few seconds.
fn max_policy_age(shape: &Shape, sources: &Sources) -> Result<Option<Duration>, ConfigError> {
    const KEY: &str = "gate.max_policy_age";
    let range = Duration::from_secs(60)..=Duration::from_secs(3660 * 24 * 3600);
    let Retention(age) = shape.gate.max_policy_age;
    age.map(|age| within(sources, KEY, Time(age), range)).transpose()
}

/// The pepper in a file.
///
/// # Errors
/// It cannot be read, or holds none.
pub(crate) fn pepper_file(path: &Path) -> Result<Pepper, Problem> {
    let secret = read_secret(path)?;
    pepper(&secret).map_err(|problem| file_problem(path, problem))
}

/// What a workspace needs. Secrets that no key points to are made in the data directory at the first start.
///
/// # Errors
/// A key that cannot be as it is, or a secret that is missing while the database that needs it is there.
pub fn workspace(
    shape: &Shape,
    sources: &Sources,
    data_dir: &DataDir,
) -> Result<WorkspaceConfig, ConfigError> {
    workspace_in(shape, sources, data_dir.path(), FirstStart::Real)
}

/// The same before anything is touched: what a first start would make is made up, and not kept.
///
/// # Errors
/// Those of [`workspace`].
pub fn workspace_rehearsal(
    shape: &Shape,
    sources: &Sources,
    data_dir: &Path,
) -> Result<WorkspaceConfig, ConfigError> {
    DataDir::probe(data_dir)?;
    workspace_in(shape, sources, data_dir, FirstStart::Rehearsal)
}

/// The same where nothing is made, and everything must be there.
///
/// # Errors
/// Those of [`workspace`], and a secret that is missing.
pub fn workspace_as_it_is(
    shape: &Shape,
    sources: &Sources,
    data_dir: &Path,
) -> Result<WorkspaceConfig, ConfigError> {
    DataDir::probe(data_dir)?;
    workspace_in(shape, sources, data_dir, FirstStart::Never)
}

fn workspace_in(
    shape: &Shape,
    sources: &Sources,
    data_dir: &Path,
    first_start: FirstStart,
) -> Result<WorkspaceConfig, ConfigError> {
    let workspace = &shape.workspace;
    let secrets = WorkspaceSecrets { sources, data_dir, first_start };
    let year = Duration::from_secs(366 * 24 * 3600);
    let second = Duration::from_secs(1);
    let token_lifetime =
        within(sources, "workspace.token_lifetime", workspace.token_lifetime, second..=year)?;
    let table = |name, shape_of| Table { sources, name, shape: shape_of, insecure: shape.insecure };
    let rest = table("workspace.tls", &workspace.tls);
    let feed = table("workspace.feed_tls", &workspace.feed_tls);
    let admin = table("admin.tls", &shape.admin.tls);
    let tls = rest.server(Certificates::Needed)?;
    let feed_tls = feed.server(Certificates::OrCredential)?;
    let admin_tls = admin.server(Certificates::ForSomeRoutes)?;
    let workspace_listen = rest.listen("workspace.listen", &workspace.listen, tls.as_ref())?;
    refuse_tls_on_unix(sources, "workspace.listen", &workspace_listen, &rest, tls.as_ref())?;
    let feed_listen = feed.listen("workspace.feed_listen", &workspace.feed_listen, feed_tls.as_ref())?;
    refuse_tls_on_unix(sources, "workspace.feed_listen", &feed_listen, &feed, feed_tls.as_ref())?;
    Ok(WorkspaceConfig {
        data_dir: data_dir.to_owned(),
        workspace_listen,
        feed_listen,
        admin_listen: admin.listen("admin.listen", &shape.admin.listen, admin_tls.as_ref())?,
        scope: WorkspaceScope {
            subscription: segment(sources, "workspace.subscription", &workspace.subscription)?,
            resource_group: segment(sources, "workspace.resource_group", &workspace.resource_group)?,
            name: segment(sources, "workspace.name", &workspace.name)?,
        },
        public_url: url(sources, "workspace.public_url", workspace.public_url.as_ref())?,
        scoring_base_url: url(sources, "workspace.scoring_base_url", workspace.scoring_base_url.as_ref())?,
        issuer: url(sources, "workspace.issuer", workspace.issuer.as_ref())?,
        token_refresh_after: within(
            sources,
            "workspace.token_refresh_after",
            workspace.token_refresh_after,
            second..=token_lifetime,
        )?,
        token_lifetime,
        token_algorithm: TokenAlgorithm::named(&workspace.token_algorithm).ok_or_else(|| {
            let problem = format!("`{}` is not ES256, RS256 or EdDSA", workspace.token_algorithm);
            sources.error("workspace.token_algorithm", Problem::Form(problem))
        })?,
        pepper: secrets.pepper(shape)?,
        policy_key: Arc::new(secrets.policy_key(shape)?),
        master_keys: secrets.master_keys(shape)?,
        enforcement_timeout: within(
            sources,
            "workspace.enforcement_timeout",
            workspace.enforcement_timeout,
            second..=Duration::from_secs(600),
        )?,
        signing_key_rotation: signing_key_rotation(shape, sources)?,
        audit_retention: audit_retention(shape, sources)?,
        tls,
        feed_tls,
        admin_tls,
    })
}

/// At least a day: less is a slip of the pen that deletes what nobody can bring back.
fn audit_retention(shape: &Shape, sources: &Sources) -> Result<Option<Duration>, ConfigError> {
    const KEY: &str = "workspace.audit_retention";
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    let Retention(retention) = shape.workspace.audit_retention;
    retention.map(|kept| within(sources, KEY, Time(kept), days(1)..=days(36_525))).transpose()
}

fn signing_key_rotation(shape: &Shape, sources: &Sources) -> Result<Option<Duration>, ConfigError> {
    const KEY: &str = "workspace.signing_key_rotation";
    let range = Duration::from_mins(1)..=Duration::from_hours(36_525 * 24);
    let Retention(rotation) = shape.workspace.signing_key_rotation;
    rotation.map(|age| within(sources, KEY, Time(age), range)).transpose()
}

/// A Unix socket would never use it.
fn refuse_tls_on_unix(
    sources: &Sources,
    key: &str,
    address: &ListenAddress,
    table: &Table<'_>,
    tls: Option<&ServerTls>,
) -> Result<(), ConfigError> {
    if tls.is_none() || !matches!(address, ListenAddress::Unix(_)) {
        return Ok(());
    }
    let problem = format!("`{address}` needs no TLS, and `{}` is set", table.name);
    Err(sources.error(key, Problem::Form(problem)))
}

/// Where the secrets of a workspace are looked for.
struct WorkspaceSecrets<'a> {
    sources: &'a Sources,
    data_dir: &'a Path,
    first_start: FirstStart,
}

/// The two keys under which a secret may be configured.
#[derive(Clone, Copy)]
struct SecretKeys {
    file: &'static str,
    value: &'static str,
}

impl WorkspaceSecrets<'_> {
    fn pepper(&self, shape: &Shape) -> Result<Pepper, ConfigError> {
        let workspace = &shape.workspace;
        let keys = SecretKeys { file: "workspace.pepper_file", value: "workspace.pepper" };
        let (file, value) = (workspace.pepper_file.as_ref(), workspace.pepper.as_ref());
        self.find("pepper", keys, (file, value), random_secret, pepper)
    }

    fn master_keys(&self, shape: &Shape) -> Result<MasterKeys, ConfigError> {
        let workspace = &shape.workspace;
        let keys = SecretKeys { file: "workspace.master_key_file", value: "workspace.master_key" };
        let (file, value) = (workspace.master_key_file.as_ref(), workspace.master_key.as_ref());
        self.find("master-key", keys, (file, value), random_secret, master_keys)
    }

    fn policy_key(&self, shape: &Shape) -> Result<PolicyKey, ConfigError> {
        let workspace = &shape.workspace;
        let keys = SecretKeys { file: "workspace.policy_key_file", value: "workspace.policy_key" };
        let (file, value) = (workspace.policy_key_file.as_ref(), workspace.policy_key.as_ref());
        let make = || PolicyKey::generate().map_err(|error| error.to_string());
        let parse = |text: &str| PolicyKey::from_pem(text).map_err(|error| error.to_string());
        self.find("policy-key", keys, (file, value), make, parse)
    }

    fn find<T>(
        &self,
        default_name: &str,
        keys: SecretKeys,
        (file, value): (Option<&String>, Option<&String>),
        make: impl FnOnce() -> Result<Zeroizing<String>, String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let Self { sources, data_dir, first_start } = self;
        let path = match (file, value) {
            (Some(_), Some(_)) => {
                let problem = format!("`{}` is set too: set one of them", keys.value);
                return Err(sources.error(keys.file, Problem::Form(problem)));
            }
            (None, Some(value)) => {
                return parse(value).map_err(|problem| sources.error(keys.value, Problem::Form(problem)));
            }
            (Some(file), None) => PathBuf::from(file),
            (None, None) => data_dir.join(default_name),
        };
        // A secret is made only together with the database: one that was lost later cannot be replaced by another.
        let is_first_start =
            *first_start != FirstStart::Never && !data_dir.join(DATABASE).try_exists().unwrap_or(true);
        let secret = if file.is_none() && is_first_start {
            read_or_make_secret(&path, *first_start, make)
        } else {
            read_secret(&path)
        };
        let secret = secret.map_err(|problem| sources.error(keys.file, problem))?;
        parse(&secret).map_err(|problem| sources.error(keys.file, secret_file(&path, &problem)))
    }
}

fn secret_file(path: &Path, problem: &str) -> Problem {
    file_problem(path, format!("does not do: {problem}"))
}

fn file_problem(path: &Path, problem: String) -> Problem {
    Problem::SecretFile { path: path.to_owned(), problem }
}

fn within(
    sources: &Sources,
    key: &str,
    Time(value): Time,
    range: RangeInclusive<Duration>,
) -> Result<Duration, ConfigError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let problem =
        format!("{} is not between {} and {}", Time(value), Time(*range.start()), Time(*range.end()));
    Err(sources.error(key, Problem::Form(problem)))
}

fn number(
    sources: &Sources,
    key: &str,
    value: usize,
    range: RangeInclusive<usize>,
) -> Result<usize, ConfigError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let problem = format!("{value} is not between {} and {}", range.start(), range.end());
    Err(sources.error(key, Problem::Form(problem)))
}

/// A segment of a resource's path: what needs no escaping there.
fn segment(sources: &Sources, key: &str, text: &str) -> Result<String, ConfigError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._()".contains(&byte);
    if (1..=90).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    let problem = format!("`{text}` must be 1 to 90 letters, digits and `-._()`");
    Err(sources.error(key, Problem::Form(problem)))
}

/// A [base URL](is_base_url), without the slash at its end.
fn url(sources: &Sources, key: &str, text: Option<&String>) -> Result<Option<String>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    if is_base_url(text) {
        return Ok(Some(text.trim_end_matches('/').to_owned()));
    }
    let text = without_user(text);
    let problem = format!("`{text}` is not an http or https URL without user, query and fragment");
    Err(sources.error(key, Problem::Form(problem)))
}

/// Whether it is an absolute http or https URL with nothing but host, port and path: others begin with it.
pub(crate) fn is_base_url(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

/// What should have been a URL, for a message: what may be user and password is left out.
pub(crate) fn without_user(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) => format!("...@{rest}"),
        None => text.to_owned(),
    }
}
