//! Which service a request is for.

use std::net::Ipv6Addr;

use crate::decision::DenyReason;

/// Longest path that is looked at, in bytes.
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
        (Some(port), PortRule::Any) => port.parse::<u16>().is_ok(),
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
/// segments, backslashes, path parameters, fragments, percent-encoded separators, dots, percent signs and control
/// characters, and bytes that are not UTF-8.
pub(crate) fn plain_path(path: &str) -> Result<&str, DenyReason> {
    if path.len() > MAX_PATH_LENGTH {
        return Err(DenyReason::AmbiguousPath);
    }
    let path = path.split_once('?').map_or(path, |(path, _)| path);
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
                if byte.is_ascii_control() || b"/\\.%;?#".contains(&byte) {
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

/// A path prefix that a service declares: plain, without a trailing slash, `/` itself apart.
#[must_use]
pub fn is_path_prefix(prefix: &str) -> bool {
    prefix == "/" || (is_plain(prefix) && !prefix.ends_with('/') && !prefix.contains('%'))
}

/// Whether a plain path is at or below a prefix; `/score` is not below `/sco`.
pub(crate) fn is_below(path: &str, prefix: &str) -> bool {
    prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
    fn is_below_respects_segments(#[case] path: &str, #[case] prefix: &str, #[case] expected: bool) {
        assert_eq!(is_below(path, prefix), expected);
    }

    #[rstest]
    #[case("/score", true)]
    #[case("/", true)]
    #[case("score", false)]
    #[case("/score/", false)]
    #[case("/a//b", false)]
    #[case("/a/../b", false)]
    #[case("/%41", false)]
    #[case("", false)]
    fn is_path_prefix_is_plain(#[case] prefix: &str, #[case] valid: bool) {
        assert_eq!(is_path_prefix(prefix), valid);
    }
}
