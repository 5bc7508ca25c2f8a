//! The workspace's REST over real HTTP, on a real store. The modules mirror the tree of URLs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::panic, reason = "a test that cannot go on says why")]
#![expect(clippy::needless_pass_by_value, reason = "`json!` values are written where they are passed")]

mod access;
mod apply;
mod artifacts;
mod audit;
mod bad_input;
mod cli;
mod compute;
mod contract;
mod discovery;
mod gates;
mod guide;
mod harness;
mod log;
mod models;
mod online_endpoints;
mod openapi;
mod operations;
mod outage;
mod principals;
mod render;
mod resource_manager;
mod services;
mod session;
mod signing_keys;
mod tls;
mod trust;
mod watch;
mod workspace;
