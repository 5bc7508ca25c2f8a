//! The whole system through a real Envoy, as its callers, its owners and its operators see it.
//!
//! One program, because it is linked once. `make test` installs Envoy; without it these tests fail.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy does not know the helpers of a test for tests"
)]

mod answers;
mod balance;
mod credentials;
mod doctor;
mod edges;
mod enforcement;
mod fixed;
mod health;
mod identity;
mod ingress;
mod istio;
mod lifecycle;
mod metrics;
mod outage;
mod paths;
mod peers;
mod policy_keys;
mod rate_limit;
mod recovery;
mod rendered;
mod rolling;
mod seeing;
mod signing_keys;
mod support;
mod targets;
mod tls;
mod traces;
