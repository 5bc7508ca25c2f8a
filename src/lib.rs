//! scoregate: Envoy external authorization for model web services.
//!
//! Two roles in one binary. The [`gate`] decides, from memory, whether a caller may score; the [`workspace`] owns
//! services, keys and tokens, and streams policy to the gates. What a decision is, is the `scoregate-authz` crate's.
//!
//! Without the feature `workspace` there is no such role, nor its code: what is left is a gate, and commands that need no
//! more than a file or the REST.

pub mod admin;
mod backoff;
mod bucket;
mod causes;
pub mod cli;
pub mod clock;
pub mod config;
mod count;
mod fault;
pub mod gate;
pub mod http_server;
pub mod listen;
pub mod metrics;
pub mod policy_file;
pub mod policy_wire;
pub mod proto;
mod random;
mod render;
pub mod shutdown;
pub mod statement;
pub mod telemetry;
pub mod terms;
pub mod tls;
#[cfg(feature = "workspace")]
pub mod workspace;
