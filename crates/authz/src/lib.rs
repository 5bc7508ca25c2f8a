//! The core of scoregate: may this caller score this service?
//!
//! Pure and synchronous. Nothing here does I/O, waits, or asks for the time: requests come in through [`RequestView`],
//! policy as a [`Snapshot`], time as a parameter; out comes a [`Verdict`]. A request is allowed only with a [`Permit`],
//! and only [`check()`] makes one.

mod check;
mod credential;
mod decision;
mod json;
mod key;
mod policy;
mod request;
mod service;
mod snapshot;
mod target;
mod token;
mod uses;

pub use check::{Policy, Rules, check};
pub use credential::{CredentialHeaders, InvalidCredentialHeaders, MAX_CREDENTIAL_LENGTH};
pub use decision::{
    AllowReason, Decision, Denial, DenyReason, Finding, Permit, Reason, UndecidedReason, Verdict,
};
pub use json::UniqueJson;
pub use key::{
    InvalidKey, KEY_LENGTH, KEY_PREFIX, KeyDigest, NoPepper, PEPPER_MIN_LENGTH, Pepper, PepperTooShort,
    Peppers, PlainKey, Slot,
};
pub use policy::{DigestDocument, InvalidPolicy, MAX_SHADOW, PolicyDocument, Service};
pub use request::{RequestView, Trace};
pub use service::{
    AuthMode, AuthModeError, ComputeType, InvalidServiceName, InvalidServiceUid, ServiceName, ServiceUid,
    UnknownComputeType,
};
pub use snapshot::{
    Entry, EntryChange, EntryId, Item, RefusedState, Snapshot, SnapshotBuilder, StateHash, Version,
    entry_hash, state_hash,
};
pub use target::{MAX_PATH_LENGTH, PortRule, TargetSource, canonical_host, is_path_prefix};
pub use token::{
    MAX_CLOCK_SKEW, MAX_SUBJECT_LENGTH, Proof, ProofCache, TOKEN_TYPE, TokenAlgorithm, UnixTime, UnusableKey,
    VerificationKey,
};
pub use uses::{KeyFingerprint, UsedCredential, Uses};
