//! From what is written to what a role can rely on.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use scoregate_authz::{CredentialHeaders, MAX_CLOCK_SKEW, Pepper, Peppers, TokenAlgorithm};
use secrecy::SecretString;
use tracing_subscriber::filter::{LevelFilter, Targets};
use zeroize::Zeroizing;

use super::secrets::{FirstStart, master_keys, pepper, random_secret, read_or_make_secret, read_secret};
use super::shape::{Retention, Shape, Time};
use super::{
    ConfigError, DataDir, GateConfig, MasterKeys, Problem, ProcessConfig, Sources, WorkspaceConfig,
    WorkspaceScope,
};
use crate::gate::PolicySource;
use crate::listen::{ListenAddress, PeerAddress};
use crate::statement::{PolicyKey, PolicyPublicKey, TrustedPolicyKeys};
use crate::tls::{ServerTls, TlsError, TlsFiles};

/// Name of the workspace's database in its data directory.
pub(crate) const DATABASE: &str = "workspace.db";

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
    let (credential, peppers, policy_keys) = match embedded {
        Some(Embedded { credential, pepper, policy_key }) => (credential, vec![pepper], vec![policy_key]),
        None => {
            let credential = gate_credential(shape, sources)?;
            (credential, gate_peppers(shape, sources)?, gate_policy_keys(shape, sources)?)
        }
    };
    let peppers = Peppers::new(peppers).map_err(|_| {
        let missing =
            Problem::Missing("a file with the pepper of the workspace, see `pepper` in its data directory");
        sources.error("gate.pepper_files", missing)
    })?;
    let policy_keys = TrustedPolicyKeys::new(policy_keys).ok_or_else(|| {
        let missing =
            "a file with the public policy key, see `policy-key.pub` in the workspace's data directory";
        sources.error("gate.policy_key_files", Problem::Missing(missing))
    })?;
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
    Ok(GateConfig {
        name: gate_name(shape, sources)?,
        ext_authz_listen: check_ports(shape, sources)?,
        admin_listen: address(shape, sources, "admin.listen", &shape.admin.listen)?,
        feed: feed_address(shape, sources)?,
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
        peer_listen: peer_address(shape, sources)?,
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
    })
}

fn feed_address(shape: &Shape, sources: &Sources) -> Result<PeerAddress, ConfigError> {
    const KEY: &str = "gate.feed";
    let address: Result<PeerAddress, _> = shape.gate.feed.parse();
    let address = address.map_err(|error| sources.error(KEY, Problem::Form(error.to_string())))?;
    if address.is_local() || shape.insecure {
        Ok(address)
    } else {
        Err(sources.error(KEY, Problem::InsecureFeed(address)))
    }
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

fn check_ports(shape: &Shape, sources: &Sources) -> Result<Vec<ListenAddress>, ConfigError> {
    const KEY: &str = "gate.ext_authz_listen";
    let addresses = &shape.gate.ext_authz_listen;
    if addresses.is_empty() {
        return Err(sources.error(KEY, Problem::Missing("at least one address")));
    }
    addresses.iter().map(|text| address(shape, sources, KEY, text)).collect()
}

fn gate_credential(shape: &Shape, sources: &Sources) -> Result<SecretString, ConfigError> {
    const KEY: &str = "gate.credential_file";
    let missing =
        Problem::Missing("a file with the credential that `principal create NAME --role gate` shows");
    let path = shape.gate.credential_file.as_ref().ok_or_else(|| sources.error(KEY, missing))?;
    let secret = read_secret(Path::new(path)).map_err(|problem| sources.error(KEY, problem))?;
    Ok(SecretString::from(secret.as_str()))
}

fn gate_peppers(shape: &Shape, sources: &Sources) -> Result<Vec<Pepper>, ConfigError> {
    const KEY: &str = "gate.pepper_files";
    let read = |path: &String| {
        let path = Path::new(path);
        let secret = read_secret(path).map_err(|problem| sources.error(KEY, problem))?;
        pepper(&secret).map_err(|problem| sources.error(KEY, secret_file(path, &problem)))
    };
    shape.gate.pepper_files.iter().map(read).collect()
}

fn gate_policy_keys(shape: &Shape, sources: &Sources) -> Result<Vec<PolicyPublicKey>, ConfigError> {
    const KEY: &str = "gate.policy_key_files";
    let read = |path: &String| {
        let path = Path::new(path);
        let text = read_secret(path).map_err(|problem| sources.error(KEY, problem))?;
        let key = PolicyPublicKey::from_pem(&text);
        key.map_err(|error| sources.error(KEY, file_problem(path, error.to_string())))
    };
    shape.gate.policy_key_files.iter().map(read).collect()
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

fn peer_address(shape: &Shape, sources: &Sources) -> Result<Option<ListenAddress>, ConfigError> {
    let text = shape.gate.peer_listen.as_deref();
    text.map(|text| address(shape, sources, "gate.peer_listen", text)).transpose()
}

/// At least a minute: the workspace's word comes every few seconds.
fn max_policy_age(shape: &Shape, sources: &Sources) -> Result<Option<Duration>, ConfigError> {
    const KEY: &str = "gate.max_policy_age";
    let range = Duration::from_secs(60)..=Duration::from_secs(3660 * 24 * 3600);
    let Retention(age) = shape.gate.max_policy_age;
    age.map(|age| within(sources, KEY, Time(age), range)).transpose()
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
    let tls = workspace_tls(shape, sources)?;
    Ok(WorkspaceConfig {
        data_dir: data_dir.to_owned(),
        workspace_listen: rest_address(shape, sources, tls.is_some())?,
        feed_listen: address(shape, sources, "workspace.feed_listen", &workspace.feed_listen)?,
        admin_listen: address(shape, sources, "admin.listen", &shape.admin.listen)?,
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

fn rest_address(shape: &Shape, sources: &Sources, has_tls: bool) -> Result<ListenAddress, ConfigError> {
    const KEY: &str = "workspace.listen";
    let problem = match shape.workspace.listen.parse::<ListenAddress>() {
        Err(error) => Problem::Form(error.to_string()),
        Ok(address @ ListenAddress::Unix(_)) if has_tls => {
            Problem::Form(format!("`{address}` needs no TLS, and `workspace.tls` is set"))
        }
        Ok(address) if has_tls || shape.insecure || address.is_local() => return Ok(address),
        Ok(address) => Problem::InsecureRest(address),
    };
    Err(sources.error(KEY, problem))
}

fn workspace_tls(shape: &Shape, sources: &Sources) -> Result<Option<ServerTls>, ConfigError> {
    const CERTIFICATE: &str = "workspace.tls.certificate_file";
    const KEY: &str = "workspace.tls.key_file";
    let tls = &shape.workspace.tls;
    let missing = |key| sources.error(key, Problem::Missing("certificate and key go together, or neither"));
    let files = match (&tls.certificate_file, &tls.key_file) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(missing(KEY)),
        (None, Some(_)) => return Err(missing(CERTIFICATE)),
        (Some(certificate), Some(key)) => TlsFiles { certificate: certificate.into(), key: key.into() },
    };
    let loaded = ServerTls::load(files).map_err(|error| {
        let key = match error {
            TlsError::Certificate { .. } => CERTIFICATE,
            TlsError::Key { .. } => KEY,
        };
        sources.error(key, Problem::Tls(error))
    });
    loaded.map(Some)
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
        let is_first_start = !data_dir.join(DATABASE).try_exists().unwrap_or(true);
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

/// An address to listen on, which others can reach only if the operator said so.
fn address(shape: &Shape, sources: &Sources, key: &str, text: &str) -> Result<ListenAddress, ConfigError> {
    let address: ListenAddress =
        text.parse().map_err(|error| sources.error(key, Problem::Form(format!("{error}"))))?;
    if address.is_local() || shape.insecure {
        Ok(address)
    } else {
        Err(sources.error(key, Problem::Insecure(address)))
    }
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
    let problem = format!("{value:?} is not between {:?} and {:?}", range.start(), range.end());
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
