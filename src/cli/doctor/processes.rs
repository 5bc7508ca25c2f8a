//! What gates and workspaces say at their admin listeners.

use std::str::FromStr;
use std::time::Duration;

use scoregate_authz::Version;

use super::Site;
use super::finding::{Code, Report};

/// A change is on its way for less.
const PATIENCE: Duration = Duration::from_secs(2);
/// Tokens are refused at `gate.clock_skew`, 5 s by default.
const MAX_SKEW: f64 = 2.0;

/// The metrics that are looked at.
struct Metrics(String);

impl Metrics {
    fn value<T: FromStr>(&self, name: &str) -> Option<T> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value?.trim().parse().ok()
    }

    /// Of a gate; `None` of a process that is none, and of a gate that counts the files which it took.
    fn version(&self) -> Option<Version> {
        if self.has_policy_file() {
            return None;
        }
        let (epoch, revision) =
            (self.value("scoregate_snapshot_epoch")?, self.value("scoregate_snapshot_revision")?);
        Some(Version { epoch, revision })
    }

    /// Whether it is a gate without a workspace.
    fn has_policy_file(&self) -> bool {
        self.value::<u8>("scoregate_policy_file_good").is_some()
    }
}

pub(super) async fn look(sites: &[Site], latest: Option<Version>, report: &mut Report) {
    let mut versions = Vec::new();
    for site in sites {
        if let Some(metrics) = visit(site, report).await {
            look_at_gate(site, &metrics, report);
            versions.extend(metrics.version().map(|version| (site, version)));
        }
    }
    let newest = versions.iter().map(|(_, version)| *version).chain(latest).max();
    let behind = versions.into_iter().filter(|(_, version)| newest.is_some_and(|newest| *version < newest));
    let behind: Vec<_> = behind.map(|(site, _)| site).collect();
    let Some(newest) = newest.filter(|_| !behind.is_empty()) else { return };
    tokio::time::sleep(PATIENCE).await;
    for site in behind {
        let Ok(metrics) = metrics(site).await else { continue };
        if let Some(version) = metrics.version().filter(|version| *version < newest) {
            report.found(
                Code::GateBehind,
                &site.base,
                format!("it enforces version {version}, and the latest is {newest}"),
            );
        }
    }
}

async fn visit(site: &Site, report: &mut Report) -> Option<Metrics> {
    let ready = match site.get("/readyz").await {
        Ok(ready) => ready,
        Err(problem) => {
            report.found(Code::AdminUnreachable, &site.base, problem);
            return None;
        }
    };
    site.compare_clocks(&ready, report);
    let (status, reason) = (ready.status(), ready.text().await.unwrap_or_default());
    if !status.is_success() {
        report.found(Code::NotReady, &site.base, format!("it says {status}: {}", first_line(&reason)));
    }
    match metrics(site).await {
        Ok(metrics) => Some(metrics),
        Err(problem) => {
            report.found(Code::AdminUnreachable, &site.base, problem);
            None
        }
    }
}

async fn metrics(site: &Site) -> Result<Metrics, String> {
    let answer = site.get("/metrics").await?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.without_url().to_string())?;
    if !status.is_success() {
        return Err(format!("/metrics answers {status}: {}", first_line(&text)));
    }
    let is_ours = text.contains("\nscoregate_");
    if is_ours { Ok(Metrics(text)) } else { Err("/metrics has none of scoregate's".to_owned()) }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

fn look_at_gate(site: &Site, metrics: &Metrics, report: &mut Report) {
    let value = |name| metrics.value::<f64>(name);
    if value("scoregate_workspace_store_up") == Some(0.0) {
        report.found(Code::StoreDown, &site.base, "scoregate_workspace_store_up is 0");
    }
    if value("scoregate_policy_file_good") == Some(0.0) {
        let problem = "scoregate_policy_file_good is 0: an older policy file is in force";
        report.found(Code::PolicyFileRefused, &site.base, problem);
    }
    if value("scoregate_feed_connected") == Some(0.0) {
        report.found(Code::FeedDisconnected, &site.base, "scoregate_feed_connected is 0");
    }
    if let Some(skew) = value("scoregate_clock_skew_seconds").filter(|skew| skew.abs() > MAX_SKEW) {
        let way = if skew > 0.0 { "ahead of" } else { "behind" };
        let problem = format!("the gate's clock is {:.1} s {way} the workspace's", skew.abs());
        report.found(Code::ClockSkew, &site.base, problem);
    }
    if let Some(problem) = age(metrics) {
        report.found(Code::PolicyOld, &site.base, problem);
    }
}

fn age(metrics: &Metrics) -> Option<String> {
    let age = metrics.value::<f64>("scoregate_snapshot_age_seconds")?;
    if metrics.value("scoregate_snapshot_stale") == Some(1.0) {
        return Some(format!("its policy was confirmed {age:.0} s ago, and is too old to decide by"));
    }
    let max = metrics.value::<f64>("scoregate_snapshot_max_age_seconds").filter(|max| *max > 0.0)?;
    (age > max / 2.0).then(|| {
        format!("its policy was confirmed {age:.0} s ago; after {max:.0} s nothing is decided by it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(10.0, 0, 100.0, false)]
    #[case(51.0, 0, 100.0, true)]
    #[case(51.0, 0, 0.0, false)]
    #[case(1.0, 1, 100.0, true)]
    #[case(f64::NAN, 0, 100.0, false)]
    fn age_is_told_from_half_of_the_maximum(
        #[case] age_seconds: f64,
        #[case] stale: u8,
        #[case] max: f64,
        #[case] expected: bool,
    ) {
        let text = format!(
            "scoregate_snapshot_age_seconds {age_seconds}\nscoregate_snapshot_stale {stale}\n\
             scoregate_snapshot_max_age_seconds {max}\n"
        );
        assert_eq!(age(&Metrics(text)).is_some(), expected);
    }
}
