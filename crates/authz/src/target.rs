//! Which service a request is for.

use std::net::Ipv6Addr;

use crate::decision::DenyReason;

/// Longest path that is looked at, in bytes, without its query.
pub const MAX_PATH_LENGTH: usize = 8 * 1024;

/// The one declared way in which a listener learns the service. There is no falling back to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetSource {
    /// The proxy's route names it, in `context_extensions`.
    #[default]
    ContextExtensions,
    /// Host and path are looked up among those that the services declare.
    HostPath,
}

/// What is done with the port of a `:authority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PortRule {
    /// Any port is cut off.
    #[default]
    Any,
    /// Only 80 and 443 are; a host with another port is no service's.
    Standard,
}

/// A host name in the one form in which hosts are compared: lower case, no port, no trailing dot.
///
/// # Errors
/// `None` for everything that is not plainly a host name or a bracketed IPv6 address.
#[must_use]
pub fn canonical_host(authority: &str, ports: PortRule) -> Option<String> {
    let (host, port) = split_port(authority)?;
    let port_is_fine = match (port, ports) {
        (None, _) => true,
        (Some(port), PortRule::Any) => is_port(port),
        (Some(port), PortRule::Standard) => matches!(port, "80" | "443"),
    };
    if !port_is_fine {
        return None;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Some(format!("[{}]", address.parse::<Ipv6Addr>().ok()?));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    is_host_name(host).then(|| host.to_ascii_lowercase())
}

fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let name_end = if authority.starts_with('[') { authority.find(']')? + 1 } else { 0 };
    match authority[name_end..].find(':') {
        None if name_end == 0 || name_end == authority.len() => Some((authority, None)),
        Some(at) if name_end == 0 || at == 0 => {
            let (host, port) = authority.split_at(name_end + at);
            Some((host, Some(&port[1..])))
        }
        _ => None,
    }
}

/// Digits only, where `parse` alone would take `+80` too.
fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// RFC 1123, section 2.1, and underscores, which exist.
fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

/// The path without its query, if every server must read it in the same way.
///
/// # Errors
/// [`DenyReason::AmbiguousPath`] for what proxies and servers are known to read differently: dot segments, empty
/// segments, backslashes, path parameters, fragments, percent-encoded separators, percent signs, control characters and
/// characters that need no encoding (RFC 3986, section 2.3: dots, letters, digits), and bytes that are not UTF-8.
pub(crate) fn plain_path(path: &str) -> Result<&str, DenyReason> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    if path.len() > MAX_PATH_LENGTH {
        return Err(DenyReason::AmbiguousPath);
    }
    // No path at all is CONNECT's, and that of proxies that do not send one; `*` is that of OPTIONS.
    if path.is_empty() || path == "*" || is_plain(path) { Ok(path) } else { Err(DenyReason::AmbiguousPath) }
}

fn is_plain(path: &str) -> bool {
    let Some(segments) = path.strip_prefix('/') else {
        return false;
    };
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if (segment.is_empty() && !is_last) || segment == "." || segment == ".." || !is_plain_segment(segment)
        {
            return false;
        }
    }
    true
}

fn is_plain_segment(segment: &str) -> bool {
    let Some(decoded) = percent_decoded(segment) else {
        return false;
    };
    str::from_utf8(&decoded).is_ok()
}

/// The bytes of a segment; `None` if one is encoded, or not encoded, that should not be.
fn percent_decoded(segment: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let hex = |digit: u8| char::from(digit).to_digit(16);
                let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
                let byte = u8::try_from(high * 16 + low).ok()?;
                if byte.is_ascii_control() || is_unreserved(byte) || b"/\\%;?#".contains(&byte) {
                    return None;
                }
                byte
            }
            b'\\' | b';' | b'#' => return None,
            _ if byte.is_ascii_graphic() => byte,
            _ => return None,
        };
        decoded.push(byte);
    }
    Some(decoded)
}

/// RFC 3986, section 2.3: encoded or not, these are the same to every server, so that no plain path has them encoded.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Longest path prefix, in bytes.
const MAX_PREFIX_LENGTH: usize = 256;

/// A path prefix that a service declares: of slashes and characters that no plain path has encoded, without a trailing
/// slash (`/` itself apart), and not too long.
#[must_use]
pub fn is_path_prefix(prefix: &str) -> bool {
    let has_one_spelling = |byte: u8| byte == b'/' || is_unreserved(byte);
    let is_short_and_plain =
        || prefix.len() <= MAX_PREFIX_LENGTH && is_plain(prefix) && !prefix.ends_with('/');
    prefix == "/" || (prefix.bytes().all(has_one_spelling) && is_short_and_plain())
}

/// The prefixes that a plain path is at or below, the longest first; `/sco` is not one of `/score`.
pub(crate) fn prefixes_of(path: &str) -> impl Iterator<Item = &str> {
    let above = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
    let below_root = std::iter::once(path).chain(above).filter(|prefix| prefix.len() <= MAX_PREFIX_LENGTH);
    below_root.chain(std::iter::once("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("s.example.com", Some("s.example.com"))]
    #[case("S.EXAMPLE.com", Some("s.example.com"))]
    #[case("s.example.com.", Some("s.example.com"))]
    #[case("s.example.com:443", Some("s.example.com"))]
    #[case("s.example.com.:8443", Some("s.example.com"))]
    #[case("[::1]:80", Some("[::1]"))]
    #[case("[0:0::1]", Some("[::1]"))]
    #[case("[fe80::1%25eth0]", None)]
    #[case("::1", None)]
    #[case("[::1", None)]
    #[case("[::1]x", None)]
    #[case("", None)]
    #[case(".", None)]
    #[case("s.example.com..", None)]
    #[case(".example.com", None)]
    #[case("s.example.com:", None)]
    #[case("s.example.com:99999", None)]
    #[case("s.example.com:+80", None)]
    #[case("s.example.com:80:80", None)]
    #[case("s.example.com,evil", None)]
    #[case("s.example.com@evil", None)]
    #[case("s.example.com/", None)]
    #[case(" s.example.com", None)]
    #[case("s.exam\0ple.com", None)]
    #[case("s.example%2ecom", None)]
    #[case("s\u{ff0e}example.com", None)]
    #[case("ſ.example.com", None)]
    #[case("*.example.com", None)]
    fn canonical_host_is_strict(#[case] authority: &str, #[case] expected: Option<&str>) {
        assert_eq!(canonical_host(authority, PortRule::Any).as_deref(), expected);
    }

    #[rstest]
    #[case("s.example.com:443", true)]
    #[case("s.example.com:80", true)]
    #[case("s.example.com", true)]
    #[case("s.example.com:8443", false)]
    fn canonical_host_with_standard_ports(#[case] authority: &str, #[case] known: bool) {
        assert_eq!(canonical_host(authority, PortRule::Standard).is_some(), known);
    }

    #[rstest]
    #[case("/score", "/score", true)]
    #[case("/score/", "/score", true)]
    #[case("/score/x", "/score", true)]
    #[case("/scores", "/score", false)]
    #[case("/sc", "/score", false)]
    #[case("/Score", "/score", false)]
    #[case("/anything", "/", true)]
    #[case("*", "/", true)]
    #[case("", "/", true)]
    fn prefixes_of_respects_segments(#[case] path: &str, #[case] prefix: &str, #[case] expected: bool) {
        assert_eq!(prefixes_of(path).any(|one| one == prefix), expected);
    }

    #[test]
    fn prefixes_of_begins_with_the_longest() {
        let prefixes: Vec<_> = prefixes_of("/a/b/c").filter(|prefix| is_path_prefix(prefix)).collect();
        assert_eq!(prefixes, ["/a/b/c", "/a/b", "/a", "/"]);
    }

    #[test]
    fn prefixes_of_a_very_deep_path_are_few() {
        assert!(prefixes_of(&"/a".repeat(4000)).count() <= 1 + MAX_PREFIX_LENGTH / 2 + 1);
    }

    #[rstest]
    #[case("/score", true)]
    #[case("/", true)]
    #[case("score", false)]
    #[case("/score/", false)]
    #[case("/a//b", false)]
    #[case("/a/../b", false)]
    #[case("/%41", false)]
    #[case("/a:b", false)]
    #[case("/a-b_c.d~e", true)]
    #[case("", false)]
    fn is_path_prefix_is_plain(#[case] prefix: &str, #[case] valid: bool) {
        assert_eq!(is_path_prefix(prefix), valid);
    }
}
