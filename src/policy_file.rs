//! Policy as a YAML file that people write: what a gate without a workspace decides by, and what a workspace is to have.
//!
//! One form for both, `scoregate/v1`. A file is good as a whole or refused as a whole, and an error says where it is.

mod declared;
mod desired;
mod digest;
mod export;
mod fixed;
mod places;
mod read;
mod schema;
mod service;
mod shape;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use declared::{DeclaredService, declared};
pub(crate) use desired::{Desired, DesiredService};
pub(crate) use digest::Digest;
pub(crate) use export::export;
pub use fixed::FixedPolicy;
pub(crate) use fixed::Seen;
pub(crate) use places::ServicePlaces;
pub(crate) use schema::SCHEMA;

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not to be had.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not such a file.
    #[error("`{}` {problem}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// Something in it is wrong.
    #[error("`{}`, {place}: {problem}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        place: Box<Place>,
        /// What is wrong, without what stands there: it may be a key.
        problem: String,
    },
}

impl FileError {
    fn unusable(path: &Path, problem: impl Into<String>) -> Self {
        Self::Unusable { path: path.to_owned(), problem: problem.into() }
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The document in the file, from 1.
    pub document: usize,
    /// Line and column, from 1; `None` where they are not known.
    pub position: Option<(u64, u64)>,
    /// The way to it, such as `services[0].hosts[1]`; empty where it is not known.
    pub path: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "document {}", self.document)?;
        if let Some((line, column)) = self.position {
            write!(f, ", line {line}, column {column}")?;
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, ", `{}`", self.path) }
    }
}
