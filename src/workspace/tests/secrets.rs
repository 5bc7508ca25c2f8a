use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use scoregate_authz::{PlainKey, Slot};
use secrecy::ExposeSecret;

use super::fixture::{Fixture, flags, new_service};
use crate::workspace::{NewKey, NewService, Origin, Principal, Role};

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[tokio::test]
async fn no_secret_is_in_the_files_in_any_form() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let mut secrets = Vec::new();
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let chosen = NewKey::Chosen(PlainKey::choose("chosen-by-the-caller").unwrap());
    for new in [NewKey::Random, chosen, NewKey::Random] {
        let keys = workspace.keys("first").unwrap();
        secrets.extend([keys.primary.expose().to_owned(), keys.secondary.expose().to_owned()]);
        workspace.regenerate_key(&Origin::local(), "first", Slot::Primary, new).await.unwrap();
    }
    let (_, credential) = workspace.create_principal(&Origin::local(), "ci", Role::Reader).await.unwrap();
    secrets.push(credential.expose_secret().to_owned());
    let token_service = NewService { auth: flags(false, true), ..new_service("second") };
    workspace.create_service(&Origin::local(), token_service).await.unwrap();
    let caller = Principal { name: "ci".to_owned(), role: Role::Reader, created_at: Timestamp::UNIX_EPOCH };
    secrets.push(workspace.issue_token("second", &caller, None).unwrap().token);
    let bytes = fixture.bytes();
    assert!(contains(&bytes, b"first"), "the log is not among the files");
    for secret in secrets {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for form in [secret.clone(), STANDARD.encode(&secret), URL_SAFE_NO_PAD.encode(&secret), hex] {
            assert!(!contains(&bytes, form.as_bytes()), "{form}");
        }
    }
    for secret in [[1_u8; 32], [7; 32]] {
        assert!(!contains(&bytes, &secret), "master key or pepper");
    }
}

#[tokio::test]
async fn no_private_key_is_in_the_files() {
    let fixture = Fixture::new();
    let _workspace = fixture.open().await;
    // PKCS#8's object identifiers: id-ecPublicKey, prime256v1.
    let prefix = [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    assert!(!contains(&fixture.bytes(), &prefix));
}
