//! `scoregate audit`: who changed what in a workspace, when and from where.

use std::str::FromStr;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::client::{Client, next_query};
use super::connection::ConnectionArgs;
use super::exit::CliError;
use super::output::{self, text};
use crate::clock::{Clock, SystemClock};
use crate::terms::AuditAction;

/// Most records that the workspace gives at once.
const PAGE: usize = 500;

/// Flags of `audit`.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Only of this service, by its name or its uid
    #[arg(long, value_name = "NAME|UID")]
    service: Option<String>,
    /// Only by this principal; `local` for the workspace itself
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Only this action, such as `service_created` or `key_regenerated`
    #[arg(long)]
    action: Option<AuditAction>,
    /// Only from this time on: a time such as `2026-01-31T12:00:00Z`, or `30m`, `2h`, `7d` for that long ago
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only before this time, written likewise
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// At most this many
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl AuditArgs {
    /// Lists it.
    ///
    /// # Errors
    /// What the workspace, the way to it or the output has against it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let mut pages =
            Pages { client: &client, query: Some(self.query()), left: self.limit, has_more: false };
        let mut records = Vec::new();
        while let Some(page) = pages.next().await? {
            if printer.writes_lines() {
                printer.print(&page.into(), |_| Ok(()))?;
            } else {
                records.extend(page);
            }
        }
        if printer.writes_lines() {
            return Ok(());
        }
        let rows: Vec<_> = records.iter().map(row).collect();
        let header = ["TIME", "PRINCIPAL", "ACTION", "TARGET", "DETAILS", "REMOTE", "REVISION"];
        printer.print(&records.into(), |out| output::table(out, header, &rows))?;
        if pages.has_more && printer.is_for_people() {
            output::hint(&format!("there are more than these {} (--limit)", self.limit));
        }
        Ok(())
    }

    fn query(&self) -> Vec<(String, String)> {
        let now = now();
        let parameters = [
            ("count", Some(self.limit.clamp(1, PAGE).to_string())),
            ("service", self.service.clone()),
            ("principal", self.principal.clone()),
            ("action", self.action.map(|action| action.as_str().to_owned())),
            ("since", self.since.map(|moment| moment.time(now).to_string())),
            ("until", self.until.map(|moment| moment.time(now).to_string())),
        ];
        parameters.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// The pages of the list, up to a number of records.
struct Pages<'a> {
    client: &'a Client,
    query: Option<Vec<(String, String)>>,
    left: usize,
    /// Whether there are more than were taken.
    has_more: bool,
}

impl Pages<'_> {
    async fn next(&mut self) -> Result<Option<Vec<Value>>, CliError> {
        let Some(query) = self.query.take().filter(|_| self.left > 0) else { return Ok(None) };
        let mut page = self.client.get_own_query(&["audit"], &query).await?;
        self.query = next_query(&page);
        let Value::Array(mut records) = page["value"].take() else { return Ok(None) };
        self.has_more = self.query.is_some() || records.len() > self.left;
        records.truncate(self.left);
        self.left -= records.len();
        Ok(Some(records))
    }
}

fn row(record: &Value) -> [String; 7] {
    let target = &record["target"];
    [
        text(record, "time"),
        text(record, "principal"),
        text(record, "action"),
        format!("{} {}", text(target, "kind"), text(target, "name")),
        details(&record["details"]),
        text(record, "remote"),
        text(record, "revision"),
    ]
}

/// `slot=primary chosen=false`, `changed=tags,authMode authMode=key->token`.
fn details(details: &Value) -> String {
    let detail = |(name, value): (&String, &Value)| match value {
        Value::Object(change) if change.contains_key("after") => {
            format!("{name}={}->{}", text(value, "before"), text(value, "after"))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            format!("{name}={}", items.join(","))
        }
        _ => format!("{name}={}", text(details, name)),
    };
    details
        .as_object()
        .map(|details| details.iter().map(detail).collect::<Vec<_>>().join(" "))
        .unwrap_or_default()
}

/// A time, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    At(Timestamp),
    Ago(SignedDuration),
}

impl Moment {
    /// A duration beyond all time means from the beginning.
    fn time(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => now.checked_sub(duration).unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
        let ago = match days {
            Some(days) => Some(SignedDuration::from_hours(i64::from(days) * 24)),
            None => text.parse::<SignedDuration>().ok().filter(|duration| !duration.is_negative()),
        };
        ago.map(Self::Ago).ok_or_else(|| {
            "a time is written as `2026-01-31T12:00:00Z`, or as `30m`, `2h` or `7d` for that long ago"
                .to_owned()
        })
    }
}

fn now() -> Timestamp {
    SignedDuration::try_from(SystemClock.now())
        .ok()
        .and_then(|now| Timestamp::from_duration(now).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn moments_are_times_or_durations() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let read = |text: &str| text.parse::<Moment>().map(|moment| moment.time(now).to_string());
        for (text, expected) in [
            ("2026-01-30T00:00:00+02:00", "2026-01-29T22:00:00Z"),
            ("30m", "2026-01-31T11:30:00Z"),
            ("1h 30m", "2026-01-31T10:30:00Z"),
            ("7d", "2026-01-24T12:00:00Z"),
            ("4294967295d", "-009999-01-02T01:59:59Z"),
        ] {
            assert_eq!(read(text), Ok(expected.to_owned()));
        }
        for text in ["", "yesterday", "-1h", "2026-01-30", "5"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn details_fit_on_a_line() {
        let change =
            json!({ "authMode": { "before": "key", "after": "token" }, "changed": ["tags", "authMode"] });
        assert_eq!(details(&change), "authMode=key->token changed=tags,authMode");
        assert_eq!(details(&json!({ "slot": "primary", "chosen": false })), "chosen=false slot=primary");
        assert_eq!(details(&json!({})), "");
    }
}
