//! The attacks that tools make of a token. The kinds are those of `jwt-hack payload TOKEN --target all` (2.6), by
//! somebody who knows more than that tool does: `typ` and `kid` are right where the attack is not about them, so that
//! none is refused for a trifle.

use aws_lc_rs::hmac;
use scoregate_authz::DenyReason;
use serde_json::{Value, json};

use crate::support::*;
use crate::token_crypto::{public_der, public_pem};

use DenyReason::{
    BadAlgorithm, BadSignature, DuplicateCredential, MalformedToken, UnknownSigningKey, UnsupportedCrit,
    WrongType,
};

/// One forged token, and why it is refused.
struct Attack {
    kind: &'static str,
    token: String,
    reason: DenyReason,
}

/// All kinds of the tool.
const KINDS: [&str; 27] = [
    "alg_confusion",
    "alg_edge",
    "alg_family_swap",
    "b64",
    "crit",
    "cty",
    "dup_key",
    "empty_sig",
    "header_quirks",
    "jku",
    "jwk_embed",
    "jwk_embed_ec",
    "jws_json",
    "kid_predictable",
    "kid_sql",
    "kid_traversal",
    "kid_wildcard",
    "nested",
    "none",
    "none_sig",
    "psychic",
    "ssrf",
    "typ_confusion",
    "x5c",
    "x5c_signed",
    "x5u",
    "zip",
];

#[test]
fn t134_forged_tokens_of_an_attack_tool_are_refused_each_for_its_reason() {
    let world = World::of(vec![token_service(SCORER), ES256.entry(), EDDSA.entry(), RS256.entry()]);
    let tables = [
        by_algorithm(),
        by_extension(),
        by_key_id(),
        with_a_key_of_the_attackers(),
        with_the_public_key(),
        by_json(),
        by_form(),
        by_signature(),
    ];
    let attacks: Vec<Attack> = tables.into_iter().flatten().collect();
    for Attack { kind, token, reason } in &attacks {
        let outcome = world.decide(&Request::to(SCORER.0).bearer(token));
        assert_eq!(outcome, Outcome::Refused(*reason), "{kind}: {token}");
    }
    let mut kinds: Vec<_> = attacks.iter().map(|attack| attack.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, KINDS);
}

fn good_payload() -> String {
    encode(claims(SCORER.1).to_string())
}

/// Header and good payload, as they are signed.
fn message(header: impl AsRef<[u8]>) -> String {
    format!("{}.{}", encode(header), good_payload())
}

fn hmac_signed(algorithm: hmac::Algorithm, message: &str, secret: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret), message.as_bytes());
    format!("{message}.{}", encode(tag))
}

fn original_signature() -> String {
    RS256.good_token().rsplit_once('.').unwrap().1.to_owned()
}

/// A header in each way in which the tool signs it, or does not.
fn shapes(kind: &'static str, header: impl AsRef<[u8]>, reason: DenyReason) -> Vec<Attack> {
    let message = message(header);
    let attack = |token, reason| Attack { kind, token, reason };
    vec![
        attack(message.clone(), MalformedToken),
        attack(format!("{message}."), MalformedToken),
        attack(format!("{message}.AAAA"), reason),
        attack(format!("{message}.{}", original_signature()), reason),
        attack(hmac_signed(hmac::HMAC_SHA256, &message, b""), reason),
    ]
}

/// Headers with one member set to each of some values.
fn with_member(kind: &'static str, name: &str, values: &Value, reason: DenyReason) -> Vec<Attack> {
    let header = |value: &Value| RS256.header_with(&json!({ name: value })).to_string();
    values.as_array().unwrap().iter().flat_map(|value| shapes(kind, header(value), reason)).collect()
}

fn by_algorithm() -> Vec<Attack> {
    let tables = [
        ("none", json!(["none", "NonE", "NONE"])),
        ("none_sig", json!(["none", "NONE", "None", "nOnE"])),
        ("alg_edge", json!(["", null, " HS256 ", "\tHS256", "hs256", "HS256\0", "rs256", "RS256\0"])),
        ("alg_edge", json!([["none", "HS256"], ["RS256"], { "alg": "RS256" }])),
        ("alg_family_swap", json!(["PS256", "PS384", "RS384", "RS512", "HS256"])),
        ("alg_family_swap", json!(["ES256", "ES384", "ES512", "ES256K", "EdDSA"])),
    ];
    tables.iter().flat_map(|(kind, values)| with_member(kind, "alg", values, BadAlgorithm)).collect()
}

fn by_extension() -> Vec<Attack> {
    let types = json!(["text/xml", "application/xml", "application/x-java-serialized-object", "JWT"]);
    let kinds =
        json!([null, "at+jwt", "JOSE", "JOSE+JSON", "application/jwt", "JWT", "jwt", "scoregate+jwt\0"]);
    let tables = [
        with_member("crit", "crit", &json!([["x-custom"], ["alg"], ["b64"], []]), UnsupportedCrit),
        with_member("b64", "b64", &json!([false]), UnsupportedCrit),
        with_member("cty", "cty", &types, MalformedToken),
        with_member("zip", "zip", &json!(["DEF", "GZIP", "unknown", "", null, ["DEF"]]), MalformedToken),
        with_member("typ_confusion", "typ", &kinds, WrongType),
    ];
    tables.into_iter().flatten().collect()
}

fn by_key_id() -> Vec<Attack> {
    let tables = [
        ("kid_sql", json!(["' OR '1'='1", "' OR 1=1 #", "' UNION SELECT 'secret-key' --", "key-0"])),
        ("kid_traversal", json!(["/dev/null", "../../../../dev/null", "..\\..\\dev\\null"])),
        ("kid_traversal", json!(["file:///dev/null", "/etc/passwd", "rs-1\0../../dev/null"])),
        ("kid_predictable", json!(["css/main.css", "robots.txt", "../../static/css/main.css"])),
        ("kid_wildcard", json!(["", null, "*", "default", "0", 0, ["a", "b"]])),
    ];
    tables.iter().flat_map(|(kind, values)| with_member(kind, "kid", values, UnknownSigningKey)).collect()
}

/// Rightly signed, but by a key of the attacker's, which the header brings along or points at.
fn with_a_key_of_the_attackers() -> Vec<Attack> {
    let attacker = Signer::es256("attacker");
    let bypasses = [
        "http://attacker.example/keys",
        "http://good.example@attacker.example/keys",
        "http://good.example%0d%0aHost: attacker.example",
    ];
    let inside = ["http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "http://[::1]/"];
    let mut lures: Vec<(&str, Value)> = Vec::new();
    for member in ["jku", "x5u"] {
        lures.extend(bypasses.map(|url| (member, json!({ member: url }))));
        lures.extend(inside.map(|url| ("ssrf", json!({ member: url }))));
    }
    lures.push(("x5c", json!({ "x5c": ["MIICIjANBgkqhkiG9w0BAQEFAAOCAg8AMIICCgKCAgEA"] })));
    lures.push(("x5c_signed", json!({ "x5c": [attacker.jwk()["x"]] })));
    lures.push(("jwk_embed_ec", json!({ "jwk": attacker.jwk() })));
    lures.push(("jwk_embed", json!({ "jwk": RS256.jwk() })));
    let signed = |(kind, members): &(&'static str, Value)| {
        let own = attacker.header_with(members);
        let known = ES256.header_with(members);
        [(own, UnknownSigningKey), (known, BadSignature)].map(|(header, reason)| Attack {
            kind,
            token: attacker.token_of(header.to_string(), claims(SCORER.1).to_string()),
            reason,
        })
    };
    lures.iter().flat_map(signed).collect()
}

/// The public key as if it were a shared secret.
fn with_the_public_key() -> Vec<Attack> {
    let pem = public_pem();
    let modulus = RS256.jwk()["n"].as_str().unwrap().to_owned();
    let secrets = [
        pem.clone().into_bytes(),
        pem.trim_end().as_bytes().to_vec(),
        public_der(),
        RS256.jwk().to_string().into_bytes(),
        modulus.into_bytes(),
    ];
    let algorithms =
        [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];
    let mut attacks = Vec::new();
    for secret in &secrets {
        for (name, algorithm) in algorithms {
            let as_hmac = message(RS256.header_with(&json!({ "alg": name })).to_string());
            let as_rsa = message(RS256.header().to_string());
            attacks.extend([(as_hmac, BadAlgorithm), (as_rsa, BadSignature)].map(|(message, reason)| {
                Attack { kind: "alg_confusion", token: hmac_signed(algorithm, &message, secret), reason }
            }));
        }
    }
    attacks
}

/// Headers that are read in two ways, or are no JSON.
fn by_json() -> Vec<Attack> {
    let header = RS256.header().to_string();
    let twice = |member: &str| header.replacen('{', &format!("{{{member},"), 1);
    let members = [r#""alg":"none""#, r#""alg":"HS256""#, r#""typ":"JOSE""#, r#""kid":"a""#];
    let attacks = members.into_iter().flat_map(|member| shapes("dup_key", twice(member), MalformedToken));
    let with_mark = shapes("header_quirks", format!("\u{feff}{header}"), MalformedToken);
    // Space around JSON is still JSON; but then it is not what was signed.
    let spaced = [format!("  {header}"), format!("\n{header}"), format!("{header}\n  ")];
    let spaced = spaced.into_iter().flat_map(|header| shapes("header_quirks", header, BadSignature));
    attacks.chain(with_mark).chain(spaced).collect()
}

/// What is no token in compact form.
fn by_form() -> Vec<Attack> {
    let good = RS256.good_token();
    let segments: Vec<&str> = good.split('.').collect();
    let attack = |kind, token, reason| Attack { kind, token, reason };
    let lengthened = [format!("{good}.garbage"), format!("{good}.{}", segments[2]), format!("{good}.")];
    let json = json!({ "protected": segments[0], "payload": segments[1], "signature": segments[2] });
    let mut with_header = json.clone();
    with_header["header"] = json!({ "alg": "none" });
    let outer = [json!({}), json!({ "cty": "JWT" }), json!({ "alg": "none", "cty": "JWT" })];
    let nested = outer.map(|members| RS256.token_of(RS256.header_with(&members).to_string(), &good));
    let mut attacks = Vec::new();
    attacks.extend(lengthened.map(|token| attack("header_quirks", token, MalformedToken)));
    attacks
        .extend([json, with_header].map(|token| attack("jws_json", token.to_string(), DuplicateCredential)));
    attacks.extend(nested.map(|token| attack("nested", token, MalformedToken)));
    attacks
}

/// Signatures that are none.
fn by_signature() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for signer in [&*RS256, &*ES256, &*EDDSA] {
        let message = message(signer.header().to_string());
        attacks.extend(
            [("", MalformedToken), (".", MalformedToken), (".null", BadSignature)]
                .map(|(end, reason)| Attack { kind: "empty_sig", token: format!("{message}{end}"), reason }),
        );
    }
    for (algorithm, length, reason) in
        [("ES256", 64, BadSignature), ("ES384", 96, BadAlgorithm), ("ES512", 132, BadAlgorithm)]
    {
        let message = message(ES256.header_with(&json!({ "alg": algorithm })).to_string());
        let token = format!("{message}.{}", encode(vec![0; length]));
        attacks.push(Attack { kind: "psychic", token, reason });
    }
    attacks
}
