//! The span that a check is part of, as W3C Trace Context writes it.

use tonic::metadata::{MetadataMap, MetadataValue};

use crate::gate::request::HttpView;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Longest `tracestate` that is handed on, in bytes: no less has to be (W3C Trace Context, section 3.3.1.5).
const MAX_STATE: usize = 512;

/// A `traceparent` of version 00: `00-{trace id}-{span id}-{flags}`.
const LENGTH: usize = 55;

/// Of the caller's span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) flags: u8,
}

impl Parent {
    /// Envoy's span of the call, if Envoy traces; otherwise the one that the request came with. `None` for what is
    /// malformed: the other one is no better then.
    pub(super) fn of(metadata: &MetadataMap, request: Option<HttpView<'_>>) -> Option<Self> {
        match metadata.get(TRACEPARENT) {
            Some(text) => Self::parse(text.as_bytes()),
            None => Self::parse(request?.header(TRACEPARENT)?),
        }
    }

    /// W3C Trace Context, section 3.2. Later versions may go on after a dash.
    fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let (version, known) = (hexadecimal::<1>(known.get(..2)?)?, &known[2..]);
        let goes_on = version != [0] && rest.first() == Some(&b'-');
        if version == [0xff] || !(rest.is_empty() || goes_on) {
            return None;
        }
        let [b'-', ids @ ..] = known else { return None };
        let [trace_id, span_id, flags] = [&ids[..32], ids.get(33..49)?, ids.get(50..)?];
        let parent = Self {
            trace_id: hexadecimal(trace_id)?,
            span_id: hexadecimal(span_id)?,
            flags: hexadecimal::<1>(flags)?[0],
        };
        let is_separated = ids[32] == b'-' && ids[49] == b'-';
        (is_separated && parent.trace_id != [0; 16] && parent.span_id != [0; 8]).then_some(parent)
    }

    pub(super) fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }
}

/// The `tracestate` that came with the parent; none that is too long or has odd characters.
pub(super) fn state<'a>(metadata: &'a MetadataMap, request: Option<HttpView<'a>>) -> Option<&'a str> {
    let state = match metadata.get(TRACEPARENT) {
        Some(_) => metadata.get(TRACESTATE).map(MetadataValue::as_bytes),
        None => request?.header(TRACESTATE),
    };
    let is_visible = |byte: &u8| matches!(byte, b' '..=b'~');
    let state = state.filter(|state| state.len() <= MAX_STATE && state.iter().all(is_visible));
    state.and_then(|state| str::from_utf8(state).ok())
}

/// Digits in lower case, as only those are allowed.
fn hexadecimal<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    (text.len() == 2 * N).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn traceparent_is_read() {
        let parent = Parent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(u128::from_be_bytes(parent.trace_id), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(u64::from_be_bytes(parent.span_id), 0x00f0_67aa_0ba9_02b7);
        assert!(parent.is_sampled());
    }

    #[rstest]
    #[case::not_sampled("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", Some(false))]
    #[case::other_flags("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe", Some(false))]
    #[case::later_version("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(true))]
    #[case::later_and_longer("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", Some(true))]
    #[case::later_and_run_on("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more", None)]
    #[case::longer("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", None)]
    #[case::no_version("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None)]
    #[case::no_trace("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None)]
    #[case::no_span("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None)]
    #[case::capitals("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None)]
    #[case::other_separators("00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01", None)]
    #[case::short("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1", None)]
    #[case::empty("", None)]
    fn traceparent_is_good_or_none(#[case] text: &str, #[case] is_sampled: Option<bool>) {
        assert_eq!(Parent::parse(text.as_bytes()).map(Parent::is_sampled), is_sampled);
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) {
            prop_assume!(trace_id != [0; 16] && span_id != [0; 8]);
            let (trace, span) = (u128::from_be_bytes(trace_id), u64::from_be_bytes(span_id));
            let text = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
            prop_assert_eq!(Parent::parse(text.as_bytes()), Some(Parent { trace_id, span_id, flags }));
        }

        #[test]
        fn no_text_is_too_odd(at in 0..LENGTH, byte: u8, more: Vec<u8>) {
            let mut text = [GOOD.as_bytes(), &more].concat();
            text[at] = byte;
            let _ = (Parent::parse(&text), Parent::parse(&text[at..]), Parent::parse(&more));
        }
    }
}
