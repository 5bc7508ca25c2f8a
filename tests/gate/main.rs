//! The gate over real sockets: against a workspace that does what a test says, and with `envoy-types` as an encoder of
//! requests that knows nothing of ours.

mod check;
mod drain;
mod envoy;
mod feed;
mod policy;
mod protocol;
mod rig;
mod workspace;
