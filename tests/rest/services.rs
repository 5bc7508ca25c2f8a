//! `{workspace}/services`

mod create;
mod delete;
mod issues;
mod keys;
mod list;
mod logs;
mod read;
mod token;
mod update;
mod validate;
