//! The workspace's REST over real HTTP, on a real store. The modules mirror the tree of URLs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::needless_pass_by_value, reason = "`json!` values are written where they are passed")]

mod access;
mod artifacts;
mod bad_input;
mod cli;
mod discovery;
mod harness;
mod log;
mod models;
mod operations;
mod outage;
mod principals;
mod resource_manager;
mod services;
mod session;
mod tls;
mod workspace;
