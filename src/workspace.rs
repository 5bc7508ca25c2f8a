//! The workspace: owns services, keys and tokens, and streams policy to the gates.

mod domain;

pub use domain::{
    AuthFlags, IssuedToken, KeyPair, NewService, Operation, OperationState, Order, Page, Patch, Principal,
    Role, ServiceFilter, ServiceRecord, WorkspaceError,
};
