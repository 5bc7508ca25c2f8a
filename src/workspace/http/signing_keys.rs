//! `/scoregate/v1/signing-keys`: the keys that sign tokens. Our own, for the CLI.

mod list;
mod rotate;
mod withdraw;

use super::access::Endpoint;

pub(super) const PATH: &str = "/scoregate/v1/signing-keys";

pub(super) fn endpoints() -> [Endpoint; 3] {
    [list::endpoint(), rotate::endpoint(), withdraw::endpoint()]
}
