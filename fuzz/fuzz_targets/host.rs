//! A host to its canonical form: which is its own, in lower case, without a port.

#![no_main]

use libfuzzer_sys::fuzz_target;
use scoregate_authz::{PortRule, canonical_host};

fuzz_target!(
    init: {
        let seeds = ["S.Example.com.:443", "[2001:db8::1]:80", "a_b-c.example", "127.0.0.1:8080"];
        scoregate_fuzz::seeds::plant("host", seeds.map(|seed| seed.as_bytes().to_vec()));
    },
    |host: &str| {
        let any = canonical_host(host, PortRule::Any);
        if let Some(canonical) = &any {
            assert_eq!(canonical_host(canonical, PortRule::Standard).as_ref(), Some(canonical));
            assert!(!canonical.bytes().any(|byte| byte.is_ascii_uppercase()), "{canonical}");
            let name = canonical.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            assert!(name.is_some() || !canonical.contains([':', '[', ']']), "{canonical}");
        }
        let standard = canonical_host(host, PortRule::Standard);
        assert!(standard.is_none() || standard == any, "fewer ports, another host");
    }
);
