//! The gate over real sockets: against a workspace that does what a test says, and with `envoy-types` as an encoder of
//! requests that knows nothing of ours.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy does not know the helpers of a test for tests"
)]

mod check;
mod drain;
mod envoy;
mod feed;
mod policy;
mod proof;
mod protocol;
mod rig;
mod seeing;
mod sources;
mod versions;
mod workspace;
