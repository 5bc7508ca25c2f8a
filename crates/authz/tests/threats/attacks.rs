//! The attacks that tools make of a token. The kinds are those of `jwt-hack payload TOKEN --target all` (2.x), by
//! somebody who knows more than that tool does: `typ` and `kid` are right where the attack is not about them, so that
//! none is refused for a trifle.

use aws_lc_rs::hmac;
use scoregate_authz::{DenyReason, TOKEN_TYPE};
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
    let attacks: Vec<Attack> =
        [by_header(), signed_by_the_attacker(), with_the_public_key(), by_form(), by_signature()]
            .into_iter()
            .flatten()
            .collect();
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

/// Headers that are refused for what they say.
fn by_header() -> Vec<Attack> {
    let none = ["none", "NonE", "NONE"].map(|alg| ("none", json!({ "alg": alg }), BadAlgorithm));
    let none_sig =
        ["none", "NONE", "None", "nOnE"].map(|alg| ("none_sig", json!({ "alg": alg }), BadAlgorithm));
    let edges = [
        json!(""),
        json!(null),
        json!(" HS256 "),
        json!("\tHS256"),
        json!("hs256"),
        json!("HS256\0"),
        json!(["none", "HS256"]),
        json!(["RS256"]),
        json!("rs256"),
        json!("RS256\0"),
    ];
    let edges = edges.map(|alg| ("alg_edge", json!({ "alg": alg }), BadAlgorithm));
    let families =
        ["PS256", "RS384", "RS512", "PS384", "ES256", "ES384", "ES512", "ES256K", "EdDSA", "HS256"];
    let families = families.map(|alg| ("alg_family_swap", json!({ "alg": alg }), BadAlgorithm));
    let crit = [
        json!({ "crit": ["x-custom"], "x-custom": "bypass" }),
        json!({ "crit": ["alg"] }),
        json!({ "crit": [] }),
    ];
    let crit = crit.map(|members| ("crit", members, UnsupportedCrit));
    let b64 = [json!({ "crit": ["b64"], "b64": false }), json!({ "b64": false })];
    let b64 = b64.map(|members| ("b64", members, UnsupportedCrit));
    let cty = ["text/xml", "application/xml", "application/x-java-serialized-object", "JWT"];
    let cty = cty.map(|cty| ("cty", json!({ "cty": cty }), MalformedToken));
    let zip = [json!("GZIP"), json!("unknown"), json!(""), json!(null), json!(["DEF"]), json!("DEF")];
    let zip = zip.map(|zip| ("zip", json!({ "zip": zip }), MalformedToken));
    let typ = [
        json!(null),
        json!("at+jwt"),
        json!("JOSE"),
        json!("JOSE+JSON"),
        json!("application/jwt"),
        json!("JWT"),
        json!("jwt"),
        json!(format!("{TOKEN_TYPE}\0")),
    ];
    let typ = typ.map(|typ| ("typ_confusion", json!({ "typ": typ }), WrongType));
    let tables: [&[_]; 9] = [&none, &none_sig, &edges, &families, &crit, &b64, &cty, &zip, &typ];
    let of_members = |(kind, members, reason): &(&'static str, Value, DenyReason)| {
        shapes(kind, RS256.header_with(members).to_string(), *reason)
    };
    tables.concat().iter().flat_map(of_members).chain(key_ids()).collect()
}

fn key_ids() -> Vec<Attack> {
    let sql = ["' OR '1'='1", "' OR '1'='1' --", "' UNION SELECT 'secret-key' --", "' OR 1=1 #", "key-0"];
    let sql = sql.map(|kid| ("kid_sql", json!(kid)));
    let traversal = [
        "/dev/null",
        "../../../../../../dev/null",
        "..\\..\\dev\\null",
        "file:///dev/null",
        "/etc/passwd",
        "rs-1\0../../dev/null",
    ];
    let traversal = traversal.map(|kid| ("kid_traversal", json!(kid)));
    let predictable = ["css/main.css", "robots.txt", "../../static/css/main.css", "index.html"];
    let predictable = predictable.map(|kid| ("kid_predictable", json!(kid)));
    let wildcard =
        [json!(""), json!(null), json!("*"), json!("default"), json!("0"), json!(0), json!(["a", "b"])];
    let wildcard = wildcard.map(|kid| ("kid_wildcard", kid));
    let tables: [&[_]; 4] = [&sql, &traversal, &predictable, &wildcard];
    let of_id = |(kind, kid): &(&'static str, Value)| {
        shapes(kind, RS256.header_with(&json!({ "kid": kid })).to_string(), UnknownSigningKey)
    };
    tables.concat().iter().flat_map(of_id).collect()
}

/// Rightly signed, but by a key of the attacker's, which the header brings along or points at.
fn signed_by_the_attacker() -> Vec<Attack> {
    let attacker = Signer::es256("attacker");
    let bypasses = [
        "http://attacker.example/keys",
        "http://good.example@attacker.example/keys",
        "http://good.example%0d%0aHost: attacker.example",
    ];
    let inside = [
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "http://[::1]/",
        "gopher://127.0.0.1:1/_",
    ];
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

/// What is no token in compact form, or no JSON that is read in one way only.
fn by_form() -> Vec<Attack> {
    let header = RS256.header().to_string();
    let twice = |member: &str| header.replacen('{', &format!("{{{member},"), 1);
    let mut attacks: Vec<_> = [r#""alg":"none""#, r#""alg":"HS256""#, r#""typ":"JOSE""#, r#""kid":"a""#]
        .into_iter()
        .flat_map(|member| shapes("dup_key", twice(member), MalformedToken))
        .collect();
    attacks.extend(shapes("header_quirks", format!("\u{feff}{header}"), MalformedToken));
    for spaced in [format!("  {header}"), format!("\n{header}"), format!("{header}\n  ")] {
        attacks.extend(shapes("header_quirks", spaced, BadSignature).into_iter().filter(|attack| {
            // Space around JSON is JSON: it is the signature that is missing.
            attack.reason == BadSignature
        }));
    }
    let good = RS256.good_token();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (protected, payload) = message.split_once('.').unwrap();
    attacks.extend(
        [format!("{good}.garbage"), format!("{good}.{signature}"), format!("{good}."), format!(".{good}")]
            .map(|token| Attack { kind: "header_quirks", token, reason: MalformedToken }),
    );
    let flattened = json!({ "protected": protected, "payload": payload, "signature": signature });
    let unprotected = json!({ "protected": protected, "header": { "alg": "none" }, "payload": payload, "signature": signature });
    attacks.extend([flattened, unprotected].map(|token| Attack {
        kind: "jws_json",
        token: token.to_string(),
        reason: DuplicateCredential,
    }));
    for outer in [json!({}), json!({ "cty": "JWT" }), json!({ "alg": "none", "cty": "JWT" })] {
        let token = RS256.token_of(RS256.header_with(&outer).to_string(), &good);
        attacks.push(Attack { kind: "nested", token, reason: MalformedToken });
    }
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
