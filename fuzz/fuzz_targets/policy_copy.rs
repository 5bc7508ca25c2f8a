//! Bytes that another gate or a mirror gives for policy: no copy, or one that only its signed statement makes policy.

#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use scoregate::gate::read_copy;
use scoregate::proto::scoregate::policy::v1 as wire;
use scoregate::statement::{PolicyKey, Statement, TrustedPolicyKeys};
use scoregate_authz::UnixTime;
use scoregate_fuzz::world::{SNAPSHOT, entries, peppers};

/// The example of RFC 8410, section 10.3.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";

static SIGNED: LazyLock<(wire::Statement, TrustedPolicyKeys)> = LazyLock::new(|| {
    let key = PolicyKey::from_pem(KEY).expect("a key");
    let statement = key.sign(&Statement {
        workspace: SNAPSHOT.workspace().to_owned(),
        version: SNAPSHOT.version(),
        state_hash: SNAPSHOT.state_hash(),
        issued_at: UnixTime::from_secs(1),
    });
    (statement, TrustedPolicyKeys::new([key.public()]).expect("one key"))
});

fuzz_target!(
    init: {
        scoregate_fuzz::seeds::plant("policy_copy", [copy(entries()), copy(Vec::new())]);
    },
    |bytes: &[u8]| {
        // The checksum of the first record is made good, so that what is behind it is reached as well.
        for bytes in [bytes.to_vec(), with_good_checksum(bytes)] {
            if let Some(believed) = read_copy(bytes, &peppers(), &SIGNED.1) {
                assert_eq!(believed, (SNAPSHOT.version(), SNAPSHOT.state_hash()));
            }
        }
    }
);

fn copy(entries: Vec<wire::Entry>) -> Vec<u8> {
    let version = SNAPSHOT.version();
    let part = wire::SnapshotPart {
        workspace: SNAPSHOT.workspace().to_owned(),
        epoch: version.epoch,
        revision: version.revision,
        total: entries.len() as u64,
        offset: 0,
        entries,
        state_hash: SNAPSHOT.state_hash().0.to_vec(),
        statement: Some(SIGNED.0.clone()),
    };
    framed(&part.encode_to_vec())
}

fn framed(record: &[u8]) -> Vec<u8> {
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX).to_be_bytes();
    [b"sgsnap\0\x01".as_slice(), &length, digest(&SHA256, record).as_ref(), record].concat()
}

fn with_good_checksum(bytes: &[u8]) -> Vec<u8> {
    framed(bytes.get(44..).unwrap_or_default())
}
