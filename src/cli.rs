//! To come.

pub mod client;
pub mod connection;
pub mod error;
pub mod exit;
pub mod key;
pub mod output;
pub mod principal;
pub mod service;
pub mod token;
