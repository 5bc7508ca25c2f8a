//! Everything is killed and disturbed, again and again, while services change and callers call: no decision may be wrong,
//! and no change that was acknowledged may be lost. Each run follows from its seed, as far as processes and networks let
//! it.
//!
//! `CHAOS_SEED`, `CHAOS_SECONDS`, `CHAOS_KILLS` and `CHAOS_CHECKS` make other runs than the one of every day.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy does not know the helpers of a test for tests"
)]

mod checker;
mod disturber;
mod driver;
#[path = "../envoy"]
mod envoy {
    #![expect(dead_code, unused_imports, reason = "the tests through Envoy need more of it")]
    pub(crate) mod support;
}
mod faults;
mod link;
mod oracle;
mod random;
mod rest;
mod run;
mod system;
mod time;

use envoy::support;
use std::sync::Mutex;
use std::time::Duration;

use run::Options;
use system::PROGRAM;

/// One run at a time: each needs the whole machine.
static TURN: Mutex<()> = Mutex::new(());

#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn options() -> Options {
    Options {
        seed: number("CHAOS_SEED", 1),
        lasts: Duration::from_secs(number("CHAOS_SECONDS", 20)),
        kills: number("CHAOS_KILLS", 12),
        checks: number("CHAOS_CHECKS", 2_000),
        gates: 3,
        services: 5,
        program: PROGRAM.into(),
        fault: None,
    }
}

#[test]
fn no_decision_is_wrong_and_no_change_is_lost_whoever_is_killed() {
    let _turn = TURN.lock();
    let options = options();
    println!("CHAOS_SEED={}", options.seed);
    let report = run::run(&options).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{report:?}");
    let definite = report.must_accept + report.must_refuse;
    assert!(report.must_accept > 0 && report.must_refuse > 0 && definite > report.either, "{report:?}");
}
