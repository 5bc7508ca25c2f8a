use std::time::Duration;

use scoregate_authz::{PlainKey, Slot};

use super::fixture::{Fixture, START, Served, flags, new_service, until};
use crate::proto::scoregate::policy::v1 as wire;
use crate::workspace::{
    CredentialUse, NewKey, NewService, Origin, Patch, ServiceRecord, Workspace, timestamp,
};
use wire::CredentialKind::{PrimaryKey, SecondaryKey, Token};
use wire::gate_message::Message as GateMessage;

const NEVER: CredentialUse = CredentialUse { count: 0, last_used: None };

fn used(count: u64, second: u64) -> CredentialUse {
    CredentialUse { count, last_used: Some(timestamp(Duration::from_secs(second))) }
}

/// What a gate would report of a key.
fn report(
    workspace: &Workspace,
    service: &ServiceRecord,
    kind: wire::CredentialKind,
    key: Option<&PlainKey>,
) -> wire::CredentialUse {
    let fingerprint =
        key.map(|key| *workspace.inner.pepper.digest(&service.uid, key).fingerprint().as_bytes());
    wire::CredentialUse {
        service_uid: service.uid.to_string(),
        kind: kind.into(),
        key_fingerprint: fingerprint.map(Vec::from).unwrap_or_default(),
        count: 3,
        last_used: START,
    }
}

fn note(workspace: &Workspace, uses: Vec<wire::CredentialUse>) {
    workspace.note_usage(wire::Usage { uses });
}

#[tokio::test]
async fn uses_come_over_the_feed_and_add_up() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    let (service, _) = workspace.create_service(&Origin::local(), new_service("svc")).await.unwrap();
    let keys = workspace.keys("svc").unwrap();
    let mut gates = [served.gate("one").await, served.gate("two").await];
    let primary = report(workspace, &service, PrimaryKey, Some(&keys.primary));
    for gate in &mut gates {
        let usage = wire::Usage { uses: vec![primary.clone()] };
        gate.say(GateMessage::Usage(usage)).await;
    }
    until("both have come", async || workspace.uses("svc").unwrap().primary == used(6, START)).await;
    assert_eq!(workspace.uses("svc").unwrap().secondary, NEVER);
    let line = "scoregate_workspace_usage_reports_total";
    assert_eq!(fixture.metrics_line(line), format!("{line} 2"));
    served.stop().await;
}

#[tokio::test]
async fn a_key_that_takes_the_place_of_another_one_begins_anew() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (service, _) = workspace.create_service(&Origin::local(), new_service("svc")).await.unwrap();
    let keys = workspace.keys("svc").unwrap();
    let old = report(&workspace, &service, PrimaryKey, Some(&keys.primary));
    let other = report(&workspace, &service, SecondaryKey, Some(&keys.secondary));
    note(&workspace, vec![old.clone(), other]);
    workspace.regenerate_key(&Origin::local(), "svc", Slot::Primary, NewKey::Random).await.unwrap();
    assert_eq!(workspace.uses("svc").unwrap().primary, NEVER);
    // Of a gate that did not know yet, or could not say so sooner.
    note(&workspace, vec![old.clone()]);
    assert_eq!(workspace.uses("svc").unwrap().primary, NEVER);
    assert_eq!(workspace.uses("svc").unwrap().secondary, used(3, START));
    let new = workspace.keys("svc").unwrap().primary;
    let new = report(&workspace, &service, PrimaryKey, Some(&new));
    note(&workspace, vec![new.clone(), new]);
    assert_eq!(workspace.uses("svc").unwrap().primary, used(6, START));
    // The key of one slot is not that of the other, whatever is said.
    let swapped = report(&workspace, &service, SecondaryKey, Some(&workspace.keys("svc").unwrap().primary));
    note(&workspace, vec![swapped]);
    assert_eq!(workspace.uses("svc").unwrap().secondary, used(3, START));
}

#[tokio::test]
async fn uses_of_tokens_are_counted_and_those_of_keys_stay() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (service, _) = workspace.create_service(&Origin::local(), new_service("svc")).await.unwrap();
    let keys = workspace.keys("svc").unwrap();
    let key = report(&workspace, &service, PrimaryKey, Some(&keys.primary));
    note(&workspace, vec![key.clone()]);
    let patch = Patch { auth: flags(false, true), ..Patch::default() };
    workspace.update_service(&Origin::local(), "svc", patch).await.unwrap();
    note(&workspace, vec![key, report(&workspace, &service, Token, None)]);
    let uses = workspace.uses("svc").unwrap();
    assert_eq!((uses.primary, uses.token), (used(3, START), used(3, START)), "keys are not in policy now");
}

#[tokio::test]
async fn uses_survive_a_restart_and_end_with_the_service() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let new = || NewService { auth: flags(false, true), ..new_service("svc") };
    let (service, _) = workspace.create_service(&Origin::local(), new()).await.unwrap();
    let (keyed, _) = workspace.create_service(&Origin::local(), new_service("keyed")).await.unwrap();
    let keys = workspace.keys("keyed").unwrap();
    let reports = vec![
        report(&workspace, &service, Token, None),
        report(&workspace, &keyed, SecondaryKey, Some(&keys.secondary)),
    ];
    note(&workspace, reports.clone());
    workspace.keep_uses().await;
    note(&workspace, reports.clone());
    workspace.keep_uses().await;
    drop(workspace);

    let workspace = fixture.open().await;
    assert_eq!(workspace.uses("svc").unwrap().token, used(6, START));
    assert_eq!(workspace.uses("keyed").unwrap().secondary, used(6, START));
    workspace.delete_service(&Origin::local(), "svc").await.unwrap();
    workspace.create_service(&Origin::local(), new()).await.unwrap();
    note(&workspace, reports);
    workspace.keep_uses().await;
    assert_eq!(workspace.uses("svc").unwrap().token, NEVER);
    drop(workspace);
    let workspace = fixture.open().await;
    assert_eq!(workspace.uses("svc").unwrap().token, NEVER);
    assert_eq!(workspace.uses("keyed").unwrap().secondary, used(9, START));
}

#[tokio::test]
async fn uses_wait_for_a_store_that_does_not_work() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (service, _) = workspace.create_service(&Origin::local(), new_service("svc")).await.unwrap();
    let keys = workspace.keys("svc").unwrap();
    note(&workspace, vec![report(&workspace, &service, PrimaryKey, Some(&keys.primary))]);
    let (path, away) = (fixture.database(), fixture.database().with_extension("away"));
    std::fs::rename(&path, &away).unwrap();
    workspace.keep_uses().await;
    assert!(workspace.store_problem().is_some());
    std::fs::rename(&away, &path).unwrap();
    assert_eq!(workspace.inner.uses.unstored(), 1);
}

#[tokio::test]
async fn what_no_gate_can_mean_is_left_out() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (service, _) = workspace.create_service(&Origin::local(), new_service("svc")).await.unwrap();
    let keys = workspace.keys("svc").unwrap();
    let good = report(&workspace, &service, PrimaryKey, Some(&keys.primary));
    let bad = vec![
        wire::CredentialUse::default(),
        wire::CredentialUse { service_uid: "no such/service".to_owned(), ..good.clone() },
        wire::CredentialUse { service_uid: "another".to_owned(), ..good.clone() },
        wire::CredentialUse { kind: 0, ..good.clone() },
        wire::CredentialUse { kind: 77, ..good.clone() },
        wire::CredentialUse { key_fingerprint: vec![0; 8], ..good.clone() },
        wire::CredentialUse { key_fingerprint: Vec::new(), ..good.clone() },
    ];
    note(&workspace, bad);
    let uses = workspace.uses("svc").unwrap();
    assert_eq!((uses.primary, uses.secondary, uses.token), (NEVER, NEVER, NEVER));
    let ahead = wire::CredentialUse { count: u64::MAX, last_used: START + 1_000, ..good };
    note(&workspace, vec![ahead.clone(), ahead]);
    assert_eq!(workspace.uses("svc").unwrap().primary, used(u64::MAX, START), "not after our own clock");
    workspace.keep_uses().await;
    assert!(workspace.store_problem().is_none());
}
