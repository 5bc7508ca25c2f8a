use super::*;
use rstest::rstest;
use scoregate_authz::{Pepper, PlainKey};

const KEY: &str = "a-key-that-was-chosen";

/// RFC 8037, appendix A.2.
const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn pepper() -> Pepper {
    Pepper::new(&[7; 32]).unwrap()
}

fn peppers() -> Peppers {
    Peppers::new(vec![pepper()]).unwrap()
}

fn digest(uid: &str, key: &str) -> String {
    let digest = pepper().digest(&uid.parse().unwrap(), &PlainKey::choose(key).unwrap());
    crate::policy_file::Digest::new(digest.as_bytes(), pepper().id()).to_string()
}

struct Files(tempfile::TempDir);

impl Files {
    fn new(policy: &str) -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        this.write("policy.yaml", policy);
        this
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn read(&self) -> Result<FixedPolicy, FileError> {
        let path = self.0.path().join("policy.yaml");
        FixedPolicy::read(&path, 3, &peppers(), &mut Seen::default())
    }

    fn refusal(&self) -> String {
        let error = self.read().unwrap_err().to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn with_services(services: &str) -> Files {
    Files::new(&format!("version: scoregate/v1\nservices:\n{services}"))
}

/// A service with one more line, which is line 4.
fn service_with(line: &str) -> Files {
    with_services(&format!("  - name: one\n    {line}\n"))
}

fn jwk(kid: &str) -> String {
    format!(r#"{{ "kid": "{kid}", "alg": "EdDSA", "kty": "OKP", "crv": "Ed25519", "x": "{X}" }}"#)
}

#[test]
fn read_makes_a_snapshot() {
    let primary = digest("one", KEY);
    let files = with_services(&format!(
        "  - {{ name: one, authMode: key, keys: {{ primary: {primary} }} }}\n  - {{ name: two, authMode: disabled }}\n"
    ));
    let policy = files.read().unwrap();
    let modes: Vec<_> =
        policy.snapshot.services().map(|service| (service.name().as_str(), service.auth_mode())).collect();
    assert_eq!(modes, [("one", Some(AuthMode::Key)), ("two", Some(AuthMode::Disabled))]);
    assert_eq!(policy.snapshot.version(), Version { epoch: 0, revision: 3 });
    assert_eq!(
        policy.snapshot.state_hash(),
        files.read().unwrap().snapshot.state_hash(),
        "the same of the same file"
    );
    assert!(
        policy.summary().starts_with("good: 2 services (1 with keys, 0 with tokens, 1 open to everybody)")
    );
}

#[test]
fn read_of_one_key_leaves_the_other_slot_to_nobody() {
    for slot in ["primary", "secondary"] {
        let files = service_with(&format!("authMode: key\n    keys: {{ {slot}: {} }}", digest("one", KEY)));
        let snapshot = files.read().unwrap().snapshot;
        let service = snapshot.services().next().unwrap();
        assert_eq!(service.problem(), None, "{slot}");
        let policy: wire::ServicePolicy =
            prost::Message::decode(snapshot.entries().next().unwrap().content()).unwrap();
        let (primary, secondary) = (policy.primary.unwrap(), policy.secondary.unwrap());
        assert_ne!(primary.digest, secondary.digest);
        assert_eq!(primary.pepper_id, secondary.pepper_id);
    }
}

#[test]
fn read_takes_verification_keys_of_both_places() {
    let files = Files::new(&format!(
        "\
version: scoregate/v1
services: [{{ name: one, uid: 018f-1, authMode: token, tokensNotBefore: 7 }}]
verificationKeys:
  - {{ issuer: 'https://a.example', maxLifetime: 12h, jwks: {{ keys: [{}] }} }}
  - {{ issuer: 'https://b.example', maxLifetime: 90s, jwksFile: keys.json }}
",
        jwk("a")
    ));
    files.write("keys.json", &format!(r#"{{ "keys": [{}] }}"#, jwk("b")));
    let policy = files.read().unwrap();
    assert_eq!(policy.snapshot.entries().len(), 3);
    assert_eq!(policy.snapshot.services().next().unwrap().uid().as_str(), "018f-1");
    assert_eq!(policy.seen, policy.seen.again());
    files.write("keys.json", &format!(r#"{{ "keys": [{}] }}"#, jwk("c")));
    assert_ne!(policy.seen, policy.seen.again(), "a change beside the file is one too");
}

#[rstest]
#[case(jwk("a"), "kid: a", "`verificationKeys[0].jwks.keys[1]`: another key has its `kid`")]
#[case(jwk("a"), "kid: a, d: secret", "`verificationKeys[0].jwks.keys[1]`: it holds secret key material")]
#[case(jwk("a"), "x: AA", "`verificationKeys[0].jwks.keys[1]`: `kid` is missing")]
fn read_refuses_key_sets(#[case] first: String, #[case] second: &str, #[case] expected: &str) {
    let files = Files::new(&format!(
        "\
version: scoregate/v1
services: []
verificationKeys:
  - issuer: i
    maxLifetime: 1h
    jwks: {{ keys: [{first}, {{ {second}, alg: EdDSA, kty: OKP, crv: Ed25519{} }}] }}
",
        if second.starts_with('x') { String::new() } else { format!(", x: {X}") }
    ));
    assert!(files.refusal().contains(expected), "{}", files.refusal());
}

#[rstest]
#[case(
    "issuer: ''\n    maxLifetime: 1h\n    jwks: { keys: [] }",
    "`verificationKeys[0].issuer`: an issuer has 1"
)]
#[case(
    "issuer: i\n    maxLifetime: 0s\n    jwks: { keys: [] }",
    "`verificationKeys[0].maxLifetime`: is not between"
)]
#[case(
    "issuer: i\n    maxLifetime: soon\n    jwks: { keys: [] }",
    "`verificationKeys[0].maxLifetime`: `soon` is not"
)]
#[case("issuer: i\n    maxLifetime: 1h", "`verificationKeys[0]`: either `jwks` or `jwksFile` is needed")]
#[case(
    "issuer: i\n    maxLifetime: 1h\n    jwksFile: policy.yaml",
    "`verificationKeys[0].jwksFile`: `policy.yaml` is not a JSON Web Key Set"
)]
#[case("issuer: i\n    maxLifetime: 1h\n    jwksFile: none.json", "cannot read `none.json`")]
fn read_refuses_rules_of_key_sets(#[case] set: &str, #[case] expected: &str) {
    let files = Files::new(&format!("version: scoregate/v1\nservices: []\nverificationKeys:\n  - {set}\n"));
    assert!(files.refusal().contains(expected), "{}", files.refusal());
}

#[rstest]
#[case("authMode: key", "line 4, column 15, `services[0].authMode`: a service in key mode needs `keys`")]
#[case(
    "authMode: token",
    "line 4, column 15, `services[0].authMode`: a service in token mode needs `verificationKeys`"
)]
fn read_refuses_modes_without_what_they_need(#[case] line: &str, #[case] expected: &str) {
    let refusal = service_with(line).refusal();
    assert!(refusal.starts_with(&format!("`policy.yaml`, document 1, {expected}")), "{refusal}");
}

#[test]
fn t059_read_refuses_equal_keys() {
    let (one, same) = (digest("one", KEY), digest("one", KEY));
    let files = service_with(&format!("authMode: key\n    keys: {{ primary: {one}, secondary: {same} }}"));
    assert_eq!(
        files.refusal(),
        "`policy.yaml`, document 1, line 5, column 11, `services[0].keys`: primary and secondary key are the same"
    );
}

#[rstest]
#[case("0".repeat(64), "`services[0].keys.primary.digest`: no key has a digest of zeros")]
#[case("a".repeat(62), "`services[0].keys.primary.digest`: a digest has 64 hexadecimal digits")]
#[case("g".repeat(64), "`services[0].keys.primary.digest`: a digest has 64 hexadecimal digits")]
#[case(String::new(), "`services[0].keys.primary.digest`: a digest has 64 hexadecimal digits")]
fn t060_read_refuses_digests_that_no_key_has(#[case] digest: String, #[case] expected: &str) {
    let keys = format!("keys: {{ primary: {{ digest: '{digest}', pepperId: {} }} }}", pepper().id());
    let refusal = service_with(&format!("authMode: key\n    {keys}")).refusal();
    assert!(refusal.contains(expected), "{refusal}");
}

#[test]
fn t060_read_refuses_the_digest_of_nothing() {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[7; 32]);
    let tag = aws_lc_rs::hmac::sign(&key, b"one\0");
    let digest: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let keys = format!("keys: {{ primary: {{ digest: '{digest}', pepperId: '{}' }} }}", pepper().id());
    let refusal = service_with(&format!("authMode: key\n    {keys}")).refusal();
    assert!(refusal.ends_with("the digest of the primary key is missing or impossible"), "{refusal}");
}

#[test]
fn read_refuses_another_pepper_and_check_without_peppers_does_not() {
    let keys =
        format!("keys: {{ primary: {{ digest: '{}', pepperId: '0123456789abcdef' }} }}", "1".repeat(64));
    let files = service_with(&format!("authMode: key\n    {keys}"));
    let refusal = files.refusal();
    assert!(
        refusal.ends_with("under pepper `0123456789abcdef`, which is not given here (--pepper-file)"),
        "{refusal}"
    );
    let policy = FixedPolicy::check(&files.0.path().join("policy.yaml"), None).unwrap();
    assert!(policy.summary().contains("1 with keys"));
}

#[rstest]
#[case("tags: { a: b }", "`services[0].tags`: this is for a workspace")]
#[case("description: d", "`services[0].description`: this is for a workspace")]
#[case(
    "keys: { primary: { digest: a, pepperId: b } }",
    "`services[0].keys`: there are keys, and the auth mode is"
)]
#[case("uid: a_b", "`services[0].uid`: a service uid has 1 to 64")]
fn read_refuses_what_does_not_belong(#[case] line: &str, #[case] expected: &str) {
    let refusal = service_with(&format!("{line}\n    authMode: disabled")).refusal();
    assert!(refusal.contains(expected), "{refusal}");
}

#[test]
fn read_refuses_a_uid_twice_and_a_place_twice() {
    let two = |more: &str| {
        with_services(&format!(
            "  - {{ name: one, authMode: disabled{more} }}\n  - {{ name: two, authMode: disabled{more} }}\n"
        ))
        .refusal()
    };
    assert!(two(", uid: u").contains("`services[1]`: its uid is that of `one`"));
    assert!(
        two(", hosts: [h], pathPrefixes: [/]").contains("`services[1]`: another service is at `h/` already")
    );
}

#[test]
fn read_refuses_a_second_document() {
    let files = Files::new("version: scoregate/v1\nservices: []\n---\nversion: scoregate/v1\nservices: []\n");
    assert_eq!(files.refusal(), "`policy.yaml` holds more than one document, and a gate takes one");
}

#[test]
fn read_refuses_a_file_that_everybody_can_write() {
    use std::os::unix::fs::PermissionsExt;
    let files = with_services("  []\n");
    let path = files.0.path().join("policy.yaml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(files.refusal(), "`policy.yaml` can be written by everybody (mode 666)");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
    assert!(files.read().is_ok(), "Kubernetes' fsGroup makes such modes");
}

/// A key that stands where a digest belongs is in no message.
#[rstest]
#[case("keys: { primary: sgk_secret }")]
#[case("keys: sgk_secret")]
#[case("keys: { primary: { digest: sgk_secret, pepperId: sgk_secret } }")]
#[case("keys: { sgk_secret: a }")]
#[case("keys: { primary: { sgk_secret } }")]
#[case("uid: sgk_secret")]
#[case("tokensNotBefore: sgk_secret")]
#[case("hosts: [sgk_secret/]")]
#[case("authMode: !sgk_secret key")]
fn t129_no_refusal_shows_a_value(#[case] line: &str) {
    let mode = if line.starts_with("authMode") { "" } else { "\n    authMode: key" };
    let files = service_with(&format!("{line}{mode}"));
    let error = files.read().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
}
