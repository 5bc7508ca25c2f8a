//! The whole system through a real Envoy, as its callers, its owners and its operators see it.
//!
//! One program, because it is linked once. `make test` installs Envoy; without it these tests fail.

mod answers;
mod support;
