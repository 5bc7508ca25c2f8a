//! `scoregate gate list`: who enforces what.

use clap::Args;
use serde_json::Value;

use crate::cli::connection::ConnectionArgs;
use crate::cli::exit::CliError;
use crate::cli::output::{self, items, text};
use crate::count::counted;

const HEADER: [&str; 10] = [
    "NAME",
    "STATE",
    "SINCE",
    "POLICY",
    "ENFORCED SINCE",
    "LAG",
    "VERSION",
    "ADDRESS",
    "PRINCIPAL",
    "LAST NACK",
];

/// Flags of `gate list`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl ListArgs {
    pub(in crate::cli) async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let gates = client.get_own(&["gates"]).await?["value"].take();
        let rows: Vec<_> = items(&gates).iter().map(row).collect();
        printer.print(&gates, |out| output::table(out, HEADER, &rows))
    }
}

fn row(gate: &Value) -> [String; 10] {
    [
        text(gate, "name"),
        text(gate, "state"),
        since(gate),
        policy(gate),
        text(gate, "enforcedSince"),
        lag(gate),
        text(gate, "version"),
        text(gate, "address"),
        text(gate, "principal"),
        nack(&gate["lastNack"]),
    ]
}

fn since(gate: &Value) -> String {
    match &gate["expectedUntil"] {
        Value::String(time) => format!("until {time}"),
        _ => text(gate, "since"),
    }
}

/// `1.34`: epoch and revision; nothing where it is not known.
fn policy(item: &Value) -> String {
    match &item["revision"] {
        Value::Null => String::new(),
        revision => format!("{}.{revision}", item["epoch"]),
    }
}

/// `none`, or `3 revisions, 12.5 s`.
fn lag(gate: &Value) -> String {
    let seconds = gate["lagSeconds"].as_f64();
    match (gate["lagRevisions"].as_u64(), seconds) {
        (Some(0), _) => "none".to_owned(),
        (Some(revisions), Some(seconds)) => format!("{}, {seconds:.1} s", counted(revisions, "revision")),
        (None, Some(seconds)) => format!("an epoch, {seconds:.1} s"),
        _ => String::new(),
    }
}

fn nack(nack: &Value) -> String {
    if nack.is_null() {
        return String::new();
    }
    format!("{} at {}: {}", policy(nack), text(nack, "time"), text(nack, "reason"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_say_what_is_known() {
        let behind = json!({
            "name": "gate-1", "state": "connected", "since": "2026-01-01T00:00:00Z", "expectedUntil": null,
            "version": "0.1.0", "principal": "gates", "address": "10.0.0.7:1234", "epoch": 1, "revision": 34,
            "enforcedSince": "2026-01-01T00:00:01Z", "lagRevisions": 3, "lagSeconds": 12.54,
            "lastNack": { "epoch": 1, "revision": 35, "reason": "no", "time": "2026-01-01T00:00:02Z" },
        });
        assert_eq!(
            row(&behind)[2..6],
            ["2026-01-01T00:00:00Z", "1.34", "2026-01-01T00:00:01Z", "3 revisions, 12.5 s",]
        );
        assert_eq!(row(&behind)[9], "1.35 at 2026-01-01T00:00:02Z: no");
        let expected =
            json!({ "name": "gate-2", "state": "expected", "expectedUntil": "2026-01-01T00:00:30Z" });
        assert_eq!(row(&expected)[1..6], ["expected", "until 2026-01-01T00:00:30Z", "", "", ""]);
    }
}
