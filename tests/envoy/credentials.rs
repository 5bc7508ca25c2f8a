//! Credentials on their way through Envoy: one decision table, in every way that there is.

use std::sync::LazyLock;

use crate::support::{Keys, Protocol, Request, System, Way};

struct Services {
    keyed: String,
    keys: Keys,
    tokened: String,
    token: String,
}

static SERVICES: LazyLock<Services> = LazyLock::new(|| {
    let system = System::get();
    let (keyed, tokened) = (system.new_service(), system.new_service());
    let keys = system.workspace.create_with_keys(&keyed);
    system.workspace.create_with_tokens(&tokened);
    let token = system.workspace.token(&tokened);
    Services { keyed, keys, tokened, token }
});

impl Services {
    fn get() -> &'static Self {
        &SERVICES
    }

    fn keyed(&self) -> Request {
        Request::score(&self.keyed)
    }

    fn tokened(&self) -> Request {
        Request::score(&self.tokened)
    }
}

/// Sends the request in every way and compares status and reason.
fn decides(request: &Request, status: u16, reason: &str) {
    for way in System::ways() {
        decides_in(way, request, status, reason);
    }
}

fn decides_in(way: Way, request: &Request, status: u16, reason: &str) {
    let (answer, said) = way.send_and_look(request);
    assert_eq!((answer.status, said.as_str()), (status, reason), "{}: {request:?}", way.name);
}

#[test]
fn t132_keys_are_decided_alike_in_every_way() {
    let services = Services::get();
    let Keys { primary, secondary } = &services.keys;
    decides(&services.keyed().bearer(primary), 200, "ok");
    decides(&services.keyed().bearer(secondary), 200, "ok");
    decides(&services.keyed(), 401, "missing_credential");
    decides(&services.keyed().bearer("not-a-key-of-this-service"), 401, "unknown_key");
    decides(&services.keyed().bearer(&services.token), 401, "wrong_credential_kind");
    decides(&services.keyed().bearer(&primary[..primary.len() - 1]), 401, "unknown_key");
}

#[test]
fn t132_tokens_are_decided_alike_in_every_way() {
    let services = Services::get();
    decides(&services.tokened().bearer(&services.token), 200, "ok");
    decides(&services.tokened(), 401, "missing_credential");
    decides(&services.tokened().bearer(&services.keys.primary), 401, "wrong_credential_kind");
    decides(&services.tokened().bearer("not.a.token"), 401, "malformed_token");
    let (rest, signature) = services.token.rsplit_once('.').unwrap();
    let (header, _) = rest.split_once('.').unwrap();
    let other = format!("{header}.eyJzdWIiOiJhZG1pbiJ9.{signature}");
    decides(&services.tokened().bearer(&other), 401, "bad_signature");
}

#[test]
fn t038_the_same_credential_twice_is_refused() {
    let services = Services::get();
    let key = &services.keys.primary;
    decides(&services.keyed().bearer(key).bearer(key), 401, "duplicate_credential");
}

#[test]
fn t039_two_credentials_are_refused_even_if_one_is_right() {
    let services = Services::get();
    let key = &services.keys.primary;
    decides(&services.keyed().bearer(key).bearer("another-one-entirely"), 401, "duplicate_credential");
    decides(&services.keyed().bearer("another-one-entirely").bearer(key), 401, "duplicate_credential");
    let capitals = services.keyed().bearer(key).header("Authorization", format!("Bearer {key}"));
    decides(&capitals, 401, "duplicate_credential");
}

#[test]
fn t040_credentials_joined_by_commas_are_refused() {
    let services = Services::get();
    let (key, token) = (&services.keys.primary, &services.token);
    for joined in [
        format!("Bearer {key}, Bearer {token}"),
        format!("Bearer bad,Bearer {key}"),
        format!("Bearer {key},"),
    ] {
        decides(&services.keyed().header("authorization", joined), 401, "duplicate_credential");
    }
}

#[test]
fn t042_a_right_credential_beside_a_wrong_one_is_refused() {
    let services = Services::get();
    let (key, token) = (&services.keys.primary, &services.token);
    decides(&services.tokened().bearer(key).bearer(token), 401, "duplicate_credential");
    decides(&services.keyed().bearer(key).bearer(token), 401, "duplicate_credential");
}

#[test]
fn t043_credentials_in_the_query_are_not_read() {
    let services = Services::get();
    for name in ["access_token", "apikey", "key", "authorization"] {
        let target = format!("/api/v1/service/{}/score?{name}={}", services.keyed, services.keys.primary);
        for way in System::ways() {
            let answer = way.send(&Request::get(&target));
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, Some(r#"Bearer realm="scoregate""#))
            );
        }
    }
}

#[test]
fn t046_forms_of_the_scheme() {
    let services = Services::get();
    let key = &services.keys.primary;
    let scheme = |value: String| services.keyed().header("authorization", value);
    for allowed in [format!("bearer {key}"), format!("BEARER {key}"), format!("bEaReR {key}")] {
        decides(&scheme(allowed), 200, "ok");
    }
    for refused in [
        format!("Bearer  {key}"),
        format!("Bearer\t{key}"),
        format!("Bearer{key}"),
        "Bearer".to_owned(),
        format!("Bearer {key} x"),
        format!("{key} Bearer"),
    ] {
        let reason = if refused.starts_with("sgk_") { "unsupported_scheme" } else { "malformed_credential" };
        decides(&scheme(refused), 401, reason);
    }
}

#[test]
fn t046_whitespace_around_the_value_does_not_belong_to_it() {
    let services = Services::get();
    let key = &services.keys.primary;
    for way in System::ways().into_iter().filter(|way| way.protocol == Protocol::Http1) {
        for padded in [format!(" Bearer {key}"), format!("Bearer {key} "), format!("\tBearer {key}\t ")] {
            decides_in(way, &services.keyed().header("authorization", padded), 200, "ok");
        }
        decides_in(way, &services.keyed().header("authorization", "Bearer "), 401, "malformed_credential");
    }
}

#[test]
fn t047_other_schemes_are_refused() {
    let services = Services::get();
    for value in ["Basic dXNlcjpLMQ==", "Digest username=x", "Negotiate YII=", "DPoP abc"] {
        decides(&services.keyed().header("authorization", value), 401, "unsupported_scheme");
    }
    let token_scheme = format!("Token {}", services.keys.primary);
    decides(&services.keyed().header("authorization", token_scheme), 401, "unsupported_scheme");
}

#[test]
fn t048_bytes_that_no_credential_has_are_refused() {
    let services = Services::get();
    let key = services.keys.primary.as_bytes();
    for byte in [b'!', b'"', b'\\', b'\t', 0x80, 0xC3, 0xFF] {
        let value = [b"Bearer ", &key[..20], &[byte], &key[20..]].concat();
        decides(&services.keyed().header("authorization", value), 401, "malformed_credential");
    }
}

#[test]
fn t048_control_characters_do_not_reach_the_gate() {
    let services = Services::get();
    let key = services.keys.primary.as_bytes();
    for byte in [0, b'\n', 0x7F] {
        let value = [b"Bearer ", &key[..20], &[byte], &key[20..]].concat();
        for way in System::ways().into_iter().filter(|way| way.protocol == Protocol::Http1) {
            let answer = way.send(&services.keyed().header("authorization", &value));
            assert_eq!(answer.status, 400, "{byte:#x} in {}", way.name);
        }
    }
}

#[test]
fn t048_a_bare_carriage_return_is_dropped_before_anybody_reads_the_value() {
    let services = Services::get();
    let key = services.keys.primary.as_bytes();
    let broken = |key: &[u8]| [b"Bearer ", &key[..20], b"\r", &key[20..]].concat();
    for way in System::ways().into_iter().filter(|way| way.protocol == Protocol::Http1) {
        decides_in(way, &services.keyed().header("authorization", broken(key)), 200, "ok");
        let wrong = broken(b"a-key-of-nobody-that-is-long-enough");
        decides_in(way, &services.keyed().header("authorization", wrong), 401, "unknown_key");
    }
}

#[test]
fn t049_an_empty_value_is_a_missing_credential() {
    let services = Services::get();
    decides(&services.keyed().header("authorization", ""), 401, "missing_credential");
    for way in System::ways() {
        let answer = way.send(&services.keyed().header("authorization", ""));
        assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="scoregate""#), "{}", way.name);
    }
}

#[test]
fn t050_long_values_are_refused_unread() {
    let services = Services::get();
    decides(&services.keyed().bearer("x"), 401, "unknown_key");
    decides(&services.keyed().bearer(&"x".repeat(4 * 1024)), 401, "unknown_key");
    decides(&services.keyed().bearer(&"x".repeat(9 * 1024)), 401, "malformed_credential");
    let longer_than_envoy_takes = services.keyed().bearer(&"x".repeat(70 * 1024));
    for way in System::ways().into_iter().filter(|way| way.protocol == Protocol::Http1) {
        assert_eq!(way.send(&longer_than_envoy_takes).status, 431, "{}", way.name);
    }
}

#[test]
fn t053_credentials_in_other_headers_are_not_read() {
    let services = Services::get();
    let value = format!("Bearer {}", services.keys.primary);
    for name in ["proxy-authorization", "x-forwarded-authorization", "x-api-key", "cookie", "x-authorization"]
    {
        decides(&services.keyed().header(name, &value), 401, "missing_credential");
    }
}

#[test]
fn t053_credentials_in_trailers_are_not_read() {
    let services = Services::get();
    let request =
        services.keyed().method("POST").header("transfer-encoding", "chunked").header("te", "trailers");
    let trailers = format!("0\r\nauthorization: Bearer {}\r\n\r\n", services.keys.primary);
    let bytes = [request.bytes(), trailers.into_bytes()].concat();
    let mut connection = crate::support::Connection::open(System::way().envoy.address).unwrap();
    assert_eq!(connection.send_bytes(&bytes, false).unwrap().status, 401);
}
