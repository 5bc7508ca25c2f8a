//! What the model server learns of the caller: who it is, and never how it proved it.

use std::sync::LazyLock;

use crate::support::{Envoy, EnvoyOptions, Gate, Request, Seen, System, WorkspaceProcess};

#[test]
fn t120_a_key_does_not_reach_the_model() {
    let system = System::get();
    let service = system.new_service();
    let keys = system.workspace.create_with_keys(&service);
    for (slot, key) in [("primary", &keys.primary), ("secondary", &keys.secondary)] {
        for way in System::ways() {
            let seen = Seen::of(&way.send(&Request::score(&service).bearer(key)));
            assert!(seen.all("authorization").is_empty() && !seen.holds(key), "{}", way.name);
            let expected = [
                "x-scoregate-auth-mode: key".to_owned(),
                format!("x-scoregate-key-slot: {slot}"),
                format!("x-scoregate-service: {service}"),
            ];
            assert_eq!(seen.identity(), expected, "{}", way.name);
        }
    }
}

#[test]
fn t120_a_token_does_not_reach_the_model() {
    let system = System::get();
    let service = system.new_service();
    system.workspace.create_with_tokens(&service);
    let token = system.workspace.token(&service);
    for way in System::ways() {
        let seen = Seen::of(&way.send(&Request::score(&service).bearer(&token)));
        assert!(seen.all("authorization").is_empty() && !seen.holds(&token), "{}", way.name);
        let expected = [
            "x-scoregate-auth-mode: token".to_owned(),
            format!("x-scoregate-service: {service}"),
            "x-scoregate-subject: owner".to_owned(),
        ];
        assert_eq!(seen.identity(), expected, "{}", way.name);
    }
}

#[test]
fn t120_a_credential_sent_to_an_open_service_does_not_reach_the_model() {
    let system = System::get();
    let service = system.new_service();
    system.workspace.create_open(&service);
    for way in System::ways() {
        let seen = Seen::of(&way.send(&Request::score(&service).bearer("nobody-asked-for-this")));
        assert!(seen.all("authorization").is_empty(), "{}", way.name);
        let expected =
            ["x-scoregate-auth-mode: disabled".to_owned(), format!("x-scoregate-service: {service}")];
        assert_eq!(seen.identity(), expected, "{}", way.name);
    }
}

/// Identity headers as a caller may forge them; of names with underscores Envoy lets none pass.
fn forged(request: Request) -> Request {
    request
        .header("x-scoregate-subject", "admin")
        .header("X-Scoregate-Subject", "root")
        .header("x-scoregate-auth-mode", "key")
        .header("x-scoregate-auth-mode", "token")
        .header("X-SCOREGATE-KEY-SLOT", "primary")
        .header("x-scoregate-service", "another-service")
}

#[test]
fn t121_forged_identity_is_overwritten_or_removed() {
    let system = System::get();
    let (keyed, tokened, open) = (system.new_service(), system.new_service(), system.new_service());
    let keys = system.workspace.create_with_keys(&keyed);
    system.workspace.create_with_tokens(&tokened);
    let token = system.workspace.token(&tokened);
    system.workspace.create_open(&open);
    for way in System::ways() {
        for honest in [
            Request::score(&keyed).bearer(&keys.secondary),
            Request::score(&tokened).bearer(&token),
            Request::score(&open),
        ] {
            let expected = Seen::of(&way.send(&honest));
            let seen = Seen::of(&way.send(&forged(honest)));
            assert_eq!(seen.identity(), expected.identity(), "{}", way.name);
        }
    }
}

#[test]
fn t121_names_with_underscores_are_refused_by_envoy() {
    let system = System::get();
    let service = system.new_service();
    system.workspace.create_open(&service);
    for name in ["x_scoregate_subject", "X-Scoregate_Subject", "x_scoregate-key-slot"] {
        for way in System::ways() {
            let request = Request::score(&service).header(name, "admin");
            let refused = match way.protocol {
                crate::support::Protocol::Http1 => way.send(&request).status == 400,
                crate::support::Protocol::Http2 => {
                    request.try_send_http2(way.envoy.address).map_or(true, |answer| answer.status == 400)
                }
            };
            assert!(refused, "{name}, {}", way.name);
        }
    }
}

#[test]
fn t121_names_with_underscores_are_removed_where_envoy_sends_them() {
    let system = System::get();
    let service = system.new_service();
    system.workspace.create_open(&service);
    let options = system.envoy_options(0);
    let options = options
        .edit("headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW")
        .edit(
            "- { exact: traceparent, ignore_case: true }",
            "- { exact: traceparent, ignore_case: true }\n                - { prefix: x, ignore_case: true }",
        )
        .edit(
            "authorization|x-scoregate-(service|auth-mode|key-slot|subject)",
            "authorization|x[-_]scoregate[-_].*",
        );
    let envoy = Envoy::start(&options);
    let request =
        Request::score(&service).header("x_scoregate_subject", "admin").header("X-Scoregate-Key_slot", "x");
    let seen = Seen::of(&request.send(envoy.address));
    let expected = ["x-scoregate-auth-mode: disabled".to_owned(), format!("x-scoregate-service: {service}")];
    assert_eq!(seen.identity(), expected);
}

/// A system whose gate takes credentials from `x-api-key` too.
struct ApiKeys {
    _workspace: WorkspaceProcess,
    gate: Gate,
    key: String,
    token: String,
}

const KEYED: &str = "forecast";
const TOKENED: &str = "ranking";

static API_KEYS: LazyLock<ApiKeys> = LazyLock::new(|| {
    let workspace = WorkspaceProcess::start(&[]);
    let headers = [("SCOREGATE__GATE__CREDENTIAL_HEADERS", "authorization,x-api-key")];
    let gate = Gate::start_with(&workspace, "gate-1", &headers);
    let client = workspace.client();
    let key = client.create_with_keys(KEYED).primary;
    client.create_with_tokens(TOKENED);
    let token = client.token(TOKENED);
    ApiKeys { _workspace: workspace, gate, key, token }
});

impl ApiKeys {
    fn options(&self) -> EnvoyOptions {
        let options = EnvoyOptions::new(&self.gate.check_address(), System::model());
        options.edit(
            "- { exact: authorization, ignore_case: true }",
            "- { exact: authorization, ignore_case: true }\n                - { exact: x-api-key, ignore_case: true }",
        )
    }

    /// With leave to remove that header.
    fn envoy(&self) -> Envoy {
        let rules = ("regex: \"authorization|", "regex: \"authorization|x-api-key|");
        Envoy::start(&self.options().edit(rules.0, rules.1))
    }
}

#[test]
fn t041_a_key_in_one_header_and_a_token_in_another_are_refused() {
    let system = &*API_KEYS;
    let envoy = system.envoy();
    for service in [KEYED, TOKENED] {
        let request = Request::score(service).header("x-api-key", &system.key).bearer(&system.token);
        assert_eq!(request.send(envoy.address).status, 401, "{service}");
        assert_eq!(envoy.access_log(&request.target)["reason"], "ambiguous_credential");
    }
}

#[test]
fn t120_a_credential_in_a_header_of_its_own_does_not_reach_the_model() {
    let system = &*API_KEYS;
    let envoy = system.envoy();
    for (service, credential) in [(KEYED, &system.key), (TOKENED, &system.token)] {
        let seen = Seen::of(&Request::score(service).header("X-Api-Key", credential).send(envoy.address));
        assert!(seen.all("x-api-key").is_empty() && !seen.holds(credential), "{service}");
    }
}

#[test]
fn t120_a_removal_that_envoy_does_not_allow_is_an_error_not_a_leak() {
    let system = &*API_KEYS;
    let envoy = Envoy::start(&system.options());
    let answer = Request::score(KEYED).header("x-api-key", &system.key).send(envoy.address);
    assert_eq!(answer.status, 500, "{}", answer.text());
}
