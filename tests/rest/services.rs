//! `{workspace}/services`

mod create;
mod delete;
mod issues;
mod keys;
mod list;
mod logs;
mod read;
mod revoke_tokens;
mod token;
mod update;
mod uses;
mod validate;
