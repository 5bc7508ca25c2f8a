//! Wrong configuration: one message that names the key and where its value came from, an exit code, and nothing
//! changed. Each case runs the binary.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy does not know the helpers of a test for tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

/// Wrong configuration.
const WRONG_CONFIGURATION: i32 = 64;
/// A failed start.
const FAILED: i32 = 1;

/// A directory with what a process is given; everything in it is to stay as it is.
struct Place(TempDir);

/// How a process ended.
struct End {
    code: Option<i32>,
    message: String,
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::Builder::new().prefix("scoregate-config-").tempdir().unwrap());
        place.write("credential", "a-credential-of-a-gate");
        place.write("pepper", "a pepper that is long enough for anybody");
        let key = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        place.write(
            "policy-key.pub",
            &format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n"),
        );
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// `{dir}` in a text is this place.
    fn fill(&self, text: &str) -> String {
        text.replace("{dir}", self.0.path().to_str().unwrap())
    }

    /// Paths and contents of all files but the database's, which SQLite itself tidies up; and the paths of directories.
    fn content(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut content = BTreeMap::new();
        let mut directories = vec![self.0.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path.clone());
                    content.insert(path, None);
                } else if !path.file_name().unwrap().to_string_lossy().starts_with("workspace.db") {
                    content.insert(path.clone(), Some(fs::read(path).unwrap()));
                }
            }
        }
        content
    }

    /// Runs a role on ports that the system chooses.
    fn command(&self, role: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scoregate"));
        command.arg(role).args(flags.iter().map(|flag| self.fill(flag))).current_dir(self.0.path());
        command.env("SCOREGATE__DATA_DIR", self.path("data")).env("SCOREGATE__SHUTDOWN__DRAIN_DELAY", "0s");
        let chosen =
            ["ADMIN__LISTEN", "WORKSPACE__LISTEN", "WORKSPACE__FEED_LISTEN", "GATE__EXT_AUTHZ_LISTEN"];
        command.envs(chosen.map(|key| (format!("SCOREGATE__{key}"), "127.0.0.1:0")));
        command
    }

    /// Runs it to its end, which must come by itself and leave everything as it was.
    fn refused(&self, mut command: Command) -> End {
        let before = self.content();
        let end = end(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        let after = self.content();
        let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changed: Vec<_> =
            paths.into_iter().filter(|path| before.get(*path) != after.get(*path)).collect();
        assert!(changed.is_empty(), "{changed:?} changed: {}", end.message);
        end
    }
}

fn end(mut child: Child) -> End {
    let deadline = Instant::now() + Duration::from_secs(10);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("it was accepted: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    End { code: output.status.code(), message: String::from_utf8(output.stderr).unwrap() }
}

impl End {
    fn says(&self, code: i32, expected: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.message);
        for text in expected {
            assert!(self.message.contains(text), "`{text}` in\n{}", self.message);
        }
        assert!(!self.message.contains("panicked"), "{}", self.message);
    }
}

#[rstest]
#[case::unknown_key("[gate]\nworker = 2", "gate.worker", "there is no such key")]
#[case::unknown_table("[gateway]\nworkers = 2", "gateway", "there is no such key")]
#[case::number_out_of_range("[gate]\nworkers = 0", "gate.workers", "0 is not between 1 and 1024")]
#[case::what_this_build_lacks("[telemetry]\nsample_ratio = 0.1", "telemetry.sample_ratio", "feature `otlp`")]
#[case::not_a_number("[gate]\nworkers = \"many\"", "gate.workers", "many")]
#[case::skew_out_of_range("[gate]\nclock_skew = \"61s\"", "gate.clock_skew", "is not between")]
#[case::not_a_duration("[shutdown]\ndeadline = \"soon\"", "shutdown.deadline", "`soon` is not a duration")]
#[case::duration_without_unit("[shutdown]\ndeadline = 5", "shutdown.deadline", "`5` is not a duration")]
#[case::not_a_flag("insecure = \"perhaps\"", "insecure", "perhaps")]
#[case::not_an_address("[admin]\nlisten = \"localhost\"", "admin.listen", "`localhost` is neither")]
#[case::no_check_port("[gate]\next_authz_listen = []", "gate.ext_authz_listen", "at least one address")]
#[case::open_check_port(
    "[gate]\next_authz_listen = [\"0.0.0.0:0\"]",
    "gate.ext_authz_listen",
    "insecure = true"
)]
#[case::open_admin("[admin]\nlisten = \"[::]:0\"", "admin.listen", "insecure = true")]
#[case::header_with_capitals(
    "[gate]\ncredential_headers = [\"X-Key\"]",
    "gate.credential_headers",
    "`X-Key`"
)]
#[case::reserved_header("[gate]\ncredential_headers = [\"host\"]", "gate.credential_headers", "`host`")]
#[case::realm("[gate]\nrealm = \"\"", "gate.realm", "printable ASCII")]
#[case::name("[gate]\nname = \"a gate\"", "gate.name", "`a gate`")]
#[case::target("[gate]\ntarget = \"guess\"", "gate.target", "guess")]
#[case::undecided("[gate]\nundecided = \"allow\"", "gate.undecided", "allow")]
#[case::log_level("[log]\nlevel = \"=loud=\"", "log.level", "invalid filter directive")]
#[case::log_level_unknown("[log]\nlevel = \"verbose\"", "log.level", "`verbose` is neither a level")]
#[case::log_level_empty("[log]\nlevel = \"\"", "log.level", "`` is neither a level")]
#[case::log_level_half("[log]\nlevel = \"info,scoregate=\"", "log.level", "`scoregate=` is neither a level")]
#[case::log_format("[log]\nformat = \"xml\"", "log.format", "xml")]
#[case::pepper_missing("[gate]\npepper_files = [\"{dir}/none\"]", "gate.pepper_files", "{dir}/none")]
#[case::pepper_directory("[gate]\npepper_files = [\"{dir}\"]", "gate.pepper_files", "cannot be read")]
#[case::no_pepper("[gate]\npepper_files = []", "gate.pepper_files", "needed, and not set")]
#[case::policy_key_missing(
    "[gate]\npolicy_key_files = [\"{dir}/none\"]",
    "gate.policy_key_files",
    "{dir}/none"
)]
#[case::policy_key_odd(
    "[gate]\npolicy_key_files = [\"{dir}/pepper\"]",
    "gate.policy_key_files",
    "no Ed25519 public key"
)]
#[case::no_policy_key("[gate]\npolicy_key_files = []", "gate.policy_key_files", "needed, and not set")]
#[case::source(
    "[gate]\npolicy_sources = [\"snapshot\"]",
    "gate.policy_sources",
    "`snapshot` is neither `file:PATH`"
)]
#[case::source_user(
    "[gate]\npolicy_sources = [\"https://user:secret@mirror\"]",
    "gate.policy_sources",
    "`...@mirror` is neither"
)]
#[case::source_plain(
    "[gate]\npolicy_sources = [\"http://mirror/snapshot\"]",
    "gate.policy_sources",
    "is on another machine and without TLS"
)]
#[case::peer_open("[gate]\npeer_listen = \"0.0.0.0:9195\"", "gate.peer_listen", "without TLS")]
#[case::policy_age("[gate]\nmax_policy_age = \"1s\"", "gate.max_policy_age", "1s is not between")]
#[case::credential_missing("[gate]\ncredential_file = \"{dir}/none\"", "gate.credential_file", "{dir}/none")]
#[case::credential_directory("[gate]\ncredential_file = \"{dir}\"", "gate.credential_file", "cannot be read")]
fn gate_refuses_a_file(#[case] file: &str, #[case] key: &str, #[case] problem: &str) {
    let place = Place::new();
    place.write("scoregate.toml", &place.fill(file));
    let mut command = place.command("gate", &["--config", "{dir}/scoregate.toml"]);
    command.env_remove("SCOREGATE__ADMIN__LISTEN").env_remove("SCOREGATE__GATE__EXT_AUTHZ_LISTEN");
    if !key.ends_with("pepper_files") {
        command.env("SCOREGATE__GATE__PEPPER_FILES", place.path("pepper"));
    }
    if !key.ends_with("policy_key_files") {
        command.env("SCOREGATE__GATE__POLICY_KEY_FILES", place.path("policy-key.pub"));
    }
    if !key.ends_with("credential_file") {
        command.env("SCOREGATE__GATE__CREDENTIAL_FILE", place.path("credential"));
    }
    let source = format!("`{key}` (file `{}`)", place.path("scoregate.toml").display());
    place.refused(command).says(WRONG_CONFIGURATION, &[&source, &place.fill(problem)]);
}

#[rstest]
#[case::unknown_key("WORKSPACE__NAMES", "x", "workspace.names", "there is no such key")]
#[case::lifetime("WORKSPACE__TOKEN_LIFETIME", "0s", "workspace.token_lifetime", "is not between")]
#[case::refresh("WORKSPACE__TOKEN_REFRESH_AFTER", "13h", "workspace.token_refresh_after", "is not between")]
#[case::algorithm("WORKSPACE__TOKEN_ALGORITHM", "HS256", "workspace.token_algorithm", "`HS256` is not ES256")]
#[case::timeout("WORKSPACE__ENFORCEMENT_TIMEOUT", "1h", "workspace.enforcement_timeout", "is not between")]
#[case::retention("WORKSPACE__AUDIT_RETENTION", "23h", "workspace.audit_retention", "is not between")]
#[case::retention_form(
    "WORKSPACE__AUDIT_RETENTION",
    "always",
    "workspace.audit_retention",
    "nor `unlimited`"
)]
#[case::open_rest("WORKSPACE__LISTEN", "0.0.0.0:0", "workspace.listen", "insecure = true")]
#[case::open_feed("WORKSPACE__FEED_LISTEN", "0.0.0.0:0", "workspace.feed_listen", "insecure = true")]
#[case::url("WORKSPACE__SCORING_BASE_URL", "ftp://models", "workspace.scoring_base_url", "`ftp://models`")]
#[case::url_with_user(
    "WORKSPACE__SCORING_BASE_URL",
    "https://me:secret@models",
    "workspace.scoring_base_url",
    "`...@models` is not an http or https URL without user"
)]
#[case::public_url_with_user(
    "WORKSPACE__PUBLIC_URL",
    "https://me@models",
    "workspace.public_url",
    "`...@models` is not"
)]
#[case::issuer_with_password(
    "WORKSPACE__ISSUER",
    "https://:a@b@models",
    "workspace.issuer",
    "`...@models` is not"
)]
#[case::issuer("WORKSPACE__ISSUER", "me", "workspace.issuer", "`me` is not an http or https URL")]
#[case::scope("WORKSPACE__NAME", "a/b", "workspace.name", "`a/b`")]
#[case::short_pepper("WORKSPACE__PEPPER", "short", "workspace.pepper", "")]
#[case::master_key("WORKSPACE__MASTER_KEY", "0123", "workspace.master_key", "64 hexadecimal digits")]
#[case::master_key_missing(
    "WORKSPACE__MASTER_KEY_FILE",
    "{dir}/none",
    "workspace.master_key_file",
    "{dir}/none"
)]
#[case::master_key_directory(
    "WORKSPACE__MASTER_KEY_FILE",
    "{dir}",
    "workspace.master_key_file",
    "cannot be read"
)]
#[case::master_key_wrong(
    "WORKSPACE__MASTER_KEY_FILE",
    "{dir}/pepper",
    "workspace.master_key_file",
    "{dir}/pepper"
)]
#[case::pepper_missing("WORKSPACE__PEPPER_FILE", "{dir}/none", "workspace.pepper_file", "{dir}/none")]
#[case::pepper_directory("WORKSPACE__PEPPER_FILE", "{dir}", "workspace.pepper_file", "cannot be read")]
fn workspace_refuses_a_variable(
    #[values("workspace", "up")] role: &str,
    #[case] variable: &str,
    #[case] value: &str,
    #[case] key: &str,
    #[case] problem: &str,
) {
    let place = Place::new();
    let variable = format!("SCOREGATE__{variable}");
    let mut command = place.command(role, &[]);
    command.env(&variable, place.fill(value));
    let source = format!("`{key}` (environment variable `{variable}`)");
    place.refused(command).says(WRONG_CONFIGURATION, &[&source, &place.fill(problem)]);
}

#[rstest]
#[case::address("gate", &["--ext-authz-listen", "nowhere"], "`gate.ext_authz_listen` (flag `--ext-authz-listen`)")]
#[case::open("up", &["--ext-authz-listen", "0.0.0.0:0"], "`gate.ext_authz_listen` (flag `--ext-authz-listen`)")]
#[case::feed("gate", &["--feed", "workspace"], "`gate.feed` (flag `--feed`)")]
#[case::far_feed("gate", &["--feed", "workspace.svc:9193"], "`gate.feed` (flag `--feed`)")]
#[case::credential("gate", &["--credential-file", "{dir}/none"], "`gate.credential_file` (flag `--credential-file`)")]
#[case::pepper("gate", &["--pepper-file", "{dir}/none"], "`gate.pepper_files` (flag `--pepper-file`)")]
#[case::policy_key("gate", &["--policy-key-file", "{dir}/none"], "`gate.policy_key_files` (flag `--policy-key-file`)")]
#[case::source("gate", &["--policy-source", "x"], "`gate.policy_sources` (flag `--policy-source`)")]
#[case::peers("gate", &["--peer-listen", "0.0.0.0:1"], "`gate.peer_listen` (flag `--peer-listen`)")]
#[case::workspace("workspace", &["--workspace-listen", "x"], "`workspace.listen` (flag `--workspace-listen`)")]
#[case::feed_listen("up", &["--feed-listen", "x"], "`workspace.feed_listen` (flag `--feed-listen`)")]
#[case::admin("workspace", &["--admin-listen", "unix:"], "`admin.listen` (flag `--admin-listen`)")]
#[case::scoring("up", &["--scoring-base-url", "x"], "`workspace.scoring_base_url` (flag `--scoring-base-url`)")]
#[case::log_level("up", &["--log-level", "=loud="], "`log.level` (flag `--log-level`)")]
fn a_flag_is_named(#[case] role: &str, #[case] flags: &[&str], #[case] source: &str) {
    let place = Place::new();
    let mut command = place.command(role, flags);
    if !source.contains("pepper") {
        command.env("SCOREGATE__GATE__PEPPER_FILES", place.path("pepper"));
    }
    if !source.contains("policy_key") {
        command.env("SCOREGATE__GATE__POLICY_KEY_FILES", place.path("policy-key.pub"));
    }
    if !source.contains("credential") {
        command.env("SCOREGATE__GATE__CREDENTIAL_FILE", place.path("credential"));
    }
    place.refused(command).says(WRONG_CONFIGURATION, &[source]);
}

#[test]
fn variables_of_others_may_be_anything() {
    let place = Place::new();
    let mut command = place.command("config", &["check"]);
    command.env("TITLE", OsStr::from_bytes(b"\xff")).env(OsStr::from_bytes(b"\xfe"), "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_is_needed_and_not_set_is_named_with_what_to_do() {
    let place = Place::new();
    let end = place.refused(place.command("gate", &[]));
    end.says(WRONG_CONFIGURATION, &["`gate.credential_file` (default)", "principal create"]);
    let end = place.refused(place.command("gate", &["--credential-file", "{dir}/credential"]));
    end.says(WRONG_CONFIGURATION, &["`gate.pepper_files` (default)", "pepper"]);
    let flags = ["--credential-file", "{dir}/credential", "--pepper-file", "{dir}/pepper"];
    let end = place.refused(place.command("gate", &flags));
    end.says(WRONG_CONFIGURATION, &["`gate.policy_key_files` (default)", "policy-key.pub"]);
}

#[test]
fn a_secret_in_two_ways_is_refused() {
    let place = Place::new();
    let mut command = place.command("workspace", &[]);
    command.env("SCOREGATE__WORKSPACE__PEPPER", "a pepper that is long enough for anybody");
    command.env("SCOREGATE__WORKSPACE__PEPPER_FILE", place.path("pepper"));
    place
        .refused(command)
        .says(WRONG_CONFIGURATION, &["`workspace.pepper_file`", "`workspace.pepper` is set too"]);
}

/// A certificate and its key, beside those of somebody else.
fn place_with_certificates() -> Place {
    let place = Place::new();
    for name in ["own", "other"] {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        place.write(&format!("{name}.cert"), &made.cert.pem());
        place.write(&format!("{name}.key"), &made.signing_key.serialize_pem());
    }
    place
}

#[rstest]
#[case::no_key("own.cert", "", "key_file", "needed, and not set")]
#[case::no_certificate("", "own.key", "certificate_file", "needed, and not set")]
#[case::missing_certificate("none", "own.key", "certificate_file", "`{dir}/none` cannot be read")]
#[case::missing_key("own.cert", "none", "key_file", "`{dir}/none` cannot be read")]
#[case::not_a_certificate(
    "pepper",
    "own.key",
    "certificate_file",
    "`{dir}/pepper` holds no certificate in PEM"
)]
#[case::key_for_certificate("own.key", "own.key", "certificate_file", "`{dir}/own.key` holds no certificate")]
#[case::not_a_key("own.cert", "pepper", "key_file", "`{dir}/pepper` holds no private key in PEM")]
#[case::key_of_another(
    "own.cert",
    "other.key",
    "key_file",
    "is not the key of the certificate `{dir}/own.cert`"
)]
fn a_certificate_or_key_that_does_not_do_is_named(
    #[values("workspace", "up", "config")] role: &str,
    #[case] certificate: &str,
    #[case] private_key: &str,
    #[case] key: &str,
    #[case] problem: &str,
) {
    let place = place_with_certificates();
    let entry = |key: &str, name: &str| match name {
        "" => String::new(),
        name => format!("{key} = \"{{dir}}/{name}\"\n"),
    };
    let file = entry("certificate_file", certificate) + &entry("key_file", private_key);
    place.write("scoregate.toml", &place.fill(&format!("[workspace.tls]\n{file}")));
    let mut command = place.command(role, if role == "config" { &["check"] } else { &[] });
    command.arg("--config").arg(place.path("scoregate.toml"));
    let origin = if problem.starts_with("needed") { "default" } else { "file `{dir}/scoregate.toml`" };
    let source = place.fill(&format!("`workspace.tls.{key}` ({origin})"));
    place.refused(command).says(WRONG_CONFIGURATION, &[&source, &place.fill(problem)]);
}

#[rstest]
#[case::old(2020, "expired at 2021-01-01T00:00:00Z")]
#[case::new(2120, "is not valid before 2120-01-01T00:00:00Z")]
fn a_certificate_of_another_time_is_told_and_taken(#[case] year: i32, #[case] problem: &str) {
    let place = place_with_certificates();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(year, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year + 1, 1, 1);
    place.write("own.cert", &parameters.self_signed(&key).unwrap().pem());
    place.write("own.key", &key.serialize_pem());
    let with_tls = |mut command: Command| {
        command.env("SCOREGATE__WORKSPACE__TLS__CERTIFICATE_FILE", place.path("own.cert"));
        command.env("SCOREGATE__WORKSPACE__TLS__KEY_FILE", place.path("own.key"));
        command
    };
    let checked = place.refused(with_tls(place.command("config", &["check"])));
    checked.says(0, &["warning: `workspace.tls.certificate_file`", &place.fill("{dir}/own.cert"), problem]);
    let log = run(&place, with_tls(place.command("workspace", &[])));
    assert!(log.contains("clients will not trust this server") && log.contains(problem), "{log}");
}

#[rstest]
#[case::everywhere("0.0.0.0:0", None)]
#[case::socket("unix:{dir}/rest.sock", Some("needs no TLS"))]
fn with_a_certificate_the_rest_may_listen(#[case] address: &str, #[case] problem: Option<&str>) {
    let place = place_with_certificates();
    let mut command = place.command("config", &["check"]);
    command.env("SCOREGATE__WORKSPACE__LISTEN", place.fill(address));
    command.env("SCOREGATE__WORKSPACE__TLS__CERTIFICATE_FILE", place.path("own.cert"));
    command.env("SCOREGATE__WORKSPACE__TLS__KEY_FILE", place.path("own.key"));
    match problem {
        Some(problem) => place.refused(command).says(WRONG_CONFIGURATION, &["`workspace.listen`", problem]),
        None => assert!(command.output().unwrap().status.success()),
    }
}

/// `{cert}` are the keys of a certificate and its key.
#[rstest]
#[case::check_port_plain(
    "gate",
    "[gate]\next_authz_listen = [\"0.0.0.0:0\"]",
    "gate.ext_authz_listen",
    "without TLS: set `gate.tls.certificate_file`"
)]
#[case::check_port_for_anybody(
    "gate",
    "[gate]\next_authz_listen = [\"0.0.0.0:0\"]\n[gate.tls]\n{cert}",
    "gate.ext_authz_listen",
    "by anybody: set `gate.tls.client_ca_file`"
)]
#[case::peers_for_anybody(
    "gate",
    "[gate]\npeer_listen = \"0.0.0.0:0\"\n[gate.peer_tls]\n{cert}",
    "gate.peer_listen",
    "by anybody: set `gate.peer_tls.client_ca_file`"
)]
#[case::ca_alone(
    "gate",
    "[gate.tls]\nclient_ca_file = \"{dir}/own.cert\"",
    "gate.tls.certificate_file",
    "what the server proves itself with"
)]
#[case::names_without_ca(
    "gate",
    "[gate.tls]\n{cert}allowed_peers = [\"dns:envoy\"]",
    "gate.tls.client_ca_file",
    "the CA of the clients"
)]
#[case::odd_name(
    "gate",
    "[gate.tls]\n{cert}client_ca_file = \"{dir}/own.cert\"\nallowed_peers = [\"envoy\"]",
    "gate.tls.allowed_peers",
    "`envoy` is neither a URI"
)]
#[case::odd_ca(
    "gate",
    "[admin.tls]\n{cert}client_ca_file = \"{dir}/pepper\"",
    "admin.tls.client_ca_file",
    "holds no certificate in PEM"
)]
#[case::feed_ca_without_names(
    "workspace",
    "[workspace.feed_tls]\n{cert}client_ca_file = \"{dir}/own.cert\"",
    "workspace.feed_tls.allowed_peers",
    "the names of gates"
)]
#[case::feed_everywhere(
    "workspace",
    "[workspace]\nfeed_listen = \"0.0.0.0:0\"",
    "workspace.feed_listen",
    "`workspace.feed_tls.certificate_file`"
)]
#[case::client_without_ca(
    "gate",
    "[gate.feed_tls]\n{cert}",
    "gate.feed_tls.ca_file",
    "the CAs that are trusted"
)]
#[case::client_ca_missing(
    "gate",
    "[gate.feed_tls]\nca_file = \"{dir}/none\"",
    "gate.feed_tls.ca_file",
    "cannot be read"
)]
#[case::odd_server_name(
    "gate",
    "[gate.feed_tls]\nca_file = \"{dir}/own.cert\"\nserver_name = \"a b\"",
    "gate.feed_tls.server_name",
    "name"
)]
#[case::source_key_missing(
    "gate",
    "[gate.source_tls]\nca_file = \"{dir}/own.cert\"\ncertificate_file = \"{dir}/own.cert\"",
    "gate.source_tls.key_file",
    "go together"
)]
#[case::socket_for_all(
    "gate",
    "[gate]\nsocket_mode = \"0666\"",
    "gate.socket_mode",
    "`0666` is not a mode such as `0660`"
)]
#[case::socket_mode_odd("gate", "[gate]\nsocket_mode = \"rw\"", "gate.socket_mode", "`rw` is not a mode")]
#[case::up_does_not_trust_itself(
    "up",
    "[workspace.feed_tls]\n{cert}",
    "gate.feed_tls.ca_file",
    "the gate of this process connects to it"
)]
fn tls_that_does_not_do_is_named(
    #[case] role: &str,
    #[case] file: &str,
    #[case] key: &str,
    #[case] problem: &str,
) {
    let place = place_with_certificates();
    let certificate = "certificate_file = \"{dir}/own.cert\"\nkey_file = \"{dir}/own.key\"\n";
    place.write("scoregate.toml", &place.fill(&file.replace("{cert}", certificate)));
    let mut command = place.command(role, &["--config", "{dir}/scoregate.toml"]);
    for listener in ["GATE__EXT_AUTHZ_LISTEN", "WORKSPACE__FEED_LISTEN"] {
        command.env_remove(format!("SCOREGATE__{listener}"));
    }
    command.env("SCOREGATE__GATE__PEPPER_FILES", place.path("pepper"));
    command.env("SCOREGATE__GATE__POLICY_KEY_FILES", place.path("policy-key.pub"));
    command.env("SCOREGATE__GATE__CREDENTIAL_FILE", place.path("credential"));
    place.refused(command).says(WRONG_CONFIGURATION, &[&format!("`{key}` ("), &place.fill(problem)]);
}

#[rstest]
#[case::missing("none.toml", "cannot read the configuration file `{dir}/none.toml`")]
#[case::directory("", "cannot read the configuration file `{dir}/`")]
#[case::not_toml("pepper", "the configuration file `{dir}/pepper` is not TOML")]
fn a_configuration_file_that_cannot_be_used_is_named(#[case] name: &str, #[case] problem: &str) {
    let place = Place::new();
    let command = place.command("up", &["--config", &format!("{{dir}}/{name}")]);
    place.refused(command).says(WRONG_CONFIGURATION, &[&place.fill(problem)]);
}

#[rstest]
#[case::file("{dir}/pepper")]
#[case::below_a_file("{dir}/pepper/data")]
fn a_data_directory_that_cannot_be_one_is_named(
    #[values("workspace", "up", "gate")] role: &str,
    #[case] path: &str,
) {
    let place = Place::new();
    let mut command = place.command(role, &["--data-dir", path]);
    command.env("SCOREGATE__GATE__PEPPER_FILES", place.path("pepper"));
    command.env("SCOREGATE__GATE__POLICY_KEY_FILES", place.path("policy-key.pub"));
    command.env("SCOREGATE__GATE__CREDENTIAL_FILE", place.path("credential"));
    let problem = place.fill(&format!("cannot use the data directory `{path}`"));
    place.refused(command).says(WRONG_CONFIGURATION, &[&problem]);
}

#[test]
fn variables_of_kubernetes_are_none_of_ours() {
    let place = Place::new();
    let mut command = place.command("config", &["check"]);
    command.env("SCOREGATE_PORT", "tcp://10.0.0.1:80").env("SCOREGATE_SERVICE_HOST", "10.0.0.1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["admin"]["listen"], "127.0.0.1:0");
}

#[test]
fn config_check_says_what_a_start_would_say() {
    let place = Place::new();
    let mut command = place.command("config", &["check"]);
    command.env("SCOREGATE__GATE__WORKER", "2");
    place.refused(command).says(WRONG_CONFIGURATION, &["`gate.worker` (environment variable"]);
    let command = place.command("config", &["check", "--gate"]);
    place.refused(command).says(WRONG_CONFIGURATION, &["`gate.credential_file` (default)"]);
    let mut command = place.command("config", &["check"]);
    command.env("SCOREGATE__WORKSPACE__TOKEN_LIFETIME", "0s");
    place.refused(command).says(WRONG_CONFIGURATION, &["`workspace.token_lifetime` (environment variable"]);
}

#[test]
fn config_check_shows_no_secret() {
    let place = Place::new();
    let mut command = place.command("config", &["check"]);
    command.env("SCOREGATE__WORKSPACE__PEPPER", "a pepper that nobody may ever see");
    command.env("SCOREGATE__WORKSPACE__MASTER_KEY", "ab".repeat(32));
    let output = command.output().unwrap();
    assert!(output.status.success());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(!shown.contains("nobody may ever see") && !shown.contains("abababab"), "{shown}");
}

/// A place where a workspace has been.
fn used_place() -> Place {
    let place = Place::new();
    starts(&place);
    place
}

/// Starts a workspace and ends it.
fn starts(place: &Place) {
    run(place, place.command("workspace", &[]));
}

/// Starts what serves and ends it; what it logged.
fn run(place: &Place, mut command: Command) -> String {
    let _ = fs::remove_file(place.path("addresses.json"));
    let log = fs::File::create(place.path("log")).unwrap();
    command.arg("--addresses-file").arg(place.path("addresses.json"));
    let mut child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !place.path("addresses.json").exists() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "no workspace");
        std::thread::sleep(Duration::from_millis(5));
    }
    let end = format!("kill -s TERM {}", child.id());
    assert!(Command::new("sh").args(["-c", &end]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    fs::read_to_string(place.path("log")).unwrap()
}

#[rstest]
#[case("master-key", "the workspace's secrets cannot be read")]
#[case("pepper", "are digested under pepper")]
fn another_secret_than_that_of_the_database_is_refused(#[case] name: &str, #[case] problem: &str) {
    let place = used_place();
    let right = fs::read_to_string(place.path("data").join(name)).unwrap();
    place.write(&format!("data/{name}"), &"0a".repeat(32));
    place.refused(place.command("workspace", &[])).says(FAILED, &[problem]);
    place.write(&format!("data/{name}"), &right);
    starts(&place);
}

#[rstest]
#[case("master-key", "workspace.master_key_file")]
#[case("pepper", "workspace.pepper_file")]
fn a_lost_secret_is_not_replaced_by_a_new_one(#[case] name: &str, #[case] key: &str) {
    let place = used_place();
    fs::remove_file(place.path("data").join(name)).unwrap();
    let end = place.refused(place.command("workspace", &[]));
    end.says(WRONG_CONFIGURATION, &[&format!("`{key}` (default)"), &format!("data/{name}")]);
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let place = used_place();
    execute(
        &place.path("data/workspace.db"),
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of a later version', TRUE, x'00', 0)",
    );
    let end = place.refused(place.command("workspace", &[]));
    end.says(FAILED, &["the database", "workspace.db", "schema version 9999"]);
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let place = used_place();
    for name in ["workspace.db-wal", "workspace.db-shm"] {
        let _ = fs::remove_file(place.path("data").join(name));
    }
    place.write("data/workspace.db", &"this is no database at all. ".repeat(1000));
    place.refused(place.command("workspace", &[])).says(FAILED, &["the database", "workspace.db"]);
}

/// Leaves one file behind, without a write-ahead log.
fn execute(database: &Path, statement: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnection::connect(database.to_str().unwrap()).await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[rstest]
#[case("--workspace-listen")]
#[case("--feed-listen")]
#[case("--admin-listen")]
#[case("--ext-authz-listen")]
fn a_taken_port_is_named(#[case] flag: &str) {
    let place = used_place();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let end = end(place
        .command("up", &[flag, &address])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap());
    end.says(FAILED, &[&format!("cannot listen on `{address}`"), "in use"]);
}

#[rstest]
#[case("--workspace-listen")]
#[case("--feed-listen")]
#[case("--admin-listen")]
#[case("--ext-authz-listen")]
fn a_taken_port_at_the_first_start_leaves_no_secret_behind(#[case] flag: &str) {
    let place = Place::new();
    let before = place.content();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = place.command("up", &[flag, &address]);
    let end = end(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    end.says(FAILED, &[&format!("cannot listen on `{address}`")]);
    let after = place.content();
    let made = after.keys().filter(|path| !before.contains_key(*path) && path.is_file());
    let made: Vec<_> = made.filter_map(|path| path.file_name()).collect();
    assert_eq!(made, ["lock"]);
}
