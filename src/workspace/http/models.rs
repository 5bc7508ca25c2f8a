//! `{workspace}/models`: stand-ins for the models that clients ask for.

mod list;
mod read;

use super::access::Endpoint;

pub(super) fn endpoints() -> [Endpoint; 2] {
    [list::endpoint(), read::endpoint()]
}
