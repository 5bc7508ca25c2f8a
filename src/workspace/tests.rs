//! The workspace as a whole, on real files and over real connections.

mod audit;
mod backup;
mod feed;
mod fixture;
mod issues;
mod operations;
mod outage;
mod principals;
mod restart;
mod scale;
mod secrets;
mod services;
mod sessions;
mod shadow;
mod signing_keys;
mod tokens;
mod uses;
