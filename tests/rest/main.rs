//! The workspace's REST over real HTTP, on a real store. The modules mirror the tree of URLs.

mod access;
mod bad_input;
mod cli;
mod discovery;
mod harness;
mod log;
mod models;
mod operations;
mod outage;
mod principals;
mod services;
mod workspace;
