//! Finding the one credential of a request, or why there is not exactly one.

use crate::decision::DenyReason;
use crate::key;
use crate::request::RequestView;

/// Longest value of a credential header, in bytes. Longer ones are refused unread.
pub const MAX_CREDENTIAL_LENGTH: usize = 8 * 1024;

/// The headers in which a credential may be.
#[derive(Debug, Clone)]
pub struct CredentialHeaders(Vec<String>);

/// Not a list of header names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredentialHeaders {
    /// Empty.
    #[error("at least one credential header is needed")]
    None,
    /// RFC 9110, section 5.1.
    #[error("`{0}` is not the name of a header in lower case")]
    Name(String),
    /// A header that carries something else.
    #[error("`{0}` cannot carry credentials")]
    Reserved(String),
    /// The same twice.
    #[error("`{0}` is listed twice")]
    Twice(String),
}

impl CredentialHeaders {
    /// `authorization` takes `Bearer` and the credential; every other header takes the bare credential.
    ///
    /// # Errors
    /// An empty list, or a name that is not one.
    pub fn new(names: Vec<String>) -> Result<Self, InvalidCredentialHeaders> {
        use InvalidCredentialHeaders as Invalid;
        if names.is_empty() {
            return Err(Invalid::None);
        }
        for (at, name) in names.iter().enumerate() {
            let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if name.is_empty() || !name.bytes().all(allowed) {
                return Err(Invalid::Name(name.clone()));
            }
            if NOT_FOR_CREDENTIALS.contains(&name.as_str()) || name.starts_with("x-scoregate-") {
                return Err(Invalid::Reserved(name.clone()));
            }
            if names[..at].contains(name) {
                return Err(Invalid::Twice(name.clone()));
            }
        }
        Ok(Self(names))
    }

    /// The names, in lower case: what an allow removes from the request.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl Default for CredentialHeaders {
    fn default() -> Self {
        Self(vec![AUTHORIZATION.to_owned()])
    }
}

const AUTHORIZATION: &str = "authorization";

/// Headers that a request cannot go on without: an allow removes those of credentials.
const NOT_FOR_CREDENTIALS: [&str; 9] = [
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The credential that a request presented: made of characters that a bearer credential may have, and not too long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credential<'a>(&'a str);

impl<'a> Credential<'a> {
    pub(crate) fn text(self) -> &'a str {
        self.0
    }
}

impl std::fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({} bytes)", self.0.len())
    }
}

/// The one credential of the request.
pub(crate) fn find<'a, R: RequestView>(
    request: &'a R,
    names: &CredentialHeaders,
) -> Result<Credential<'a>, DenyReason> {
    let in_map = the_header(request.headers(), names);
    let in_list = the_header(request.raw_headers(), names);
    let header = match (request.headers().next(), request.raw_headers().next()) {
        (_, None) => in_map?,
        (None, Some(_)) => in_list?,
        (Some(_), Some(_)) if in_map == in_list => in_map?,
        (Some(_), Some(_)) => return Err(DenyReason::AmbiguousCredential),
    };
    let (name, value) = header.ok_or(DenyReason::MissingCredential)?;
    if value.len() > MAX_CREDENTIAL_LENGTH {
        return Err(DenyReason::MalformedCredential);
    }
    let value = trim_optional_whitespace(value);
    if value.is_empty() {
        return Err(DenyReason::EmptyCredential);
    }
    if name == AUTHORIZATION { bearer(value) } else { bare(value) }
}

type Header<'n, 'a> = (&'n str, &'a [u8]);

/// The one header of these names, if there is one.
fn the_header<'n, 'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    names: &'n CredentialHeaders,
) -> Result<Option<Header<'n, 'a>>, DenyReason> {
    let mut found: Option<Header<'n, 'a>> = None;
    let mut several_names = false;
    let mut several_values = false;
    for (name, value) in headers {
        let Some(known) = names.names().find(|known| name.eq_ignore_ascii_case(known)) else {
            continue;
        };
        match found {
            None => found = Some((known, value)),
            Some((before, _)) if before == known => several_values = true,
            Some(_) => several_names = true,
        }
    }
    match (several_names, several_values) {
        (true, _) => Err(DenyReason::AmbiguousCredential),
        (_, true) => Err(DenyReason::DuplicateCredential),
        _ => Ok(found),
    }
}

/// RFC 9110, section 5.6.3: spaces and tabs around a field's value do not belong to it.
fn trim_optional_whitespace(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 6750, section 2.1: `"Bearer" 1*SP b64token`, with exactly one space.
fn bearer(value: &[u8]) -> Result<Credential<'_>, DenyReason> {
    let space = value.iter().position(|byte| *byte == b' ').ok_or(DenyReason::MalformedCredential)?;
    let (scheme, credential) = (&value[..space], &value[space + 1..]);
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return bare(credential);
    }
    let is_scheme =
        scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte));
    Err(if is_scheme { DenyReason::UnsupportedScheme } else { DenyReason::MalformedCredential })
}

fn bare(value: &[u8]) -> Result<Credential<'_>, DenyReason> {
    if value.contains(&b',') {
        // Proxies join repeated headers by commas, and no credential contains one.
        return Err(DenyReason::DuplicateCredential);
    }
    if !key::is_b64token(value) {
        return Err(DenyReason::MalformedCredential);
    }
    str::from_utf8(value).map(Credential).map_err(|_| DenyReason::MalformedCredential)
}
