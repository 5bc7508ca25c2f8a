//! docs/metrics.md has what gate and workspace show, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Gate, WorkspaceProcess, new_path};
use crate::traces::{Collector, traced_gate};

const DOCUMENT: &str = include_str!("../../../docs/metrics.md");
const REASONS: &str = include_str!("../../../docs/reasons.md");

/// A metric but for its name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metric {
    kind: String,
    /// Each with all its values.
    labels: BTreeMap<String, BTreeSet<String>>,
}

type Metrics = BTreeMap<String, Metric>;

#[test]
fn document_has_every_metric_with_its_labels_and_no_other() {
    let workspace = WorkspaceProcess::start(&[]);
    let gate = Gate::start(&workspace, "gate-1");
    compare("Gate", &shown(gate.scoregate.admin("/metrics").text()), &documented("Gate"));
    let workspace = shown(workspace.scoregate.admin("/metrics").text());
    compare("Workspace", &workspace, &documented("Workspace"));
}

#[test]
fn document_has_every_metric_of_a_gate_without_a_workspace() {
    let file = new_path("policy.yaml");
    std::fs::write(&file, "version: scoregate/v1\nservices: []\n").unwrap();
    let listen = ["--admin-listen", "127.0.0.1:0", "--ext-authz-listen", "127.0.0.1:0"];
    let arguments = ["--policy", file.to_str().unwrap()].into_iter().chain(listen);
    let gate = Gate::with_arguments(arguments.map(str::to_owned).collect(), &[]);
    let mut documented_here = documented("Gate");
    let of_a_workspace =
        ["scoregate_feed_", "scoregate_policy_source_", "scoregate_change_applied_", "scoregate_clock_skew_"];
    documented_here.retain(|name, _| !of_a_workspace.iter().any(|prefix| name.starts_with(prefix)));
    documented_here.extend(documented("Gate without a workspace"));
    let shown = shown(gate.scoregate.admin("/metrics").text());
    compare("Gate without a workspace", &shown, &documented_here);
}

#[test]
fn document_has_every_metric_of_a_gate_that_sends_spans() {
    let gate = traced_gate(&Collector::start().endpoint(), &[]);
    let mut shown = shown(gate.admin("/metrics").text());
    shown.retain(|name, _| name.starts_with("scoregate_spans_"));
    compare("Gate that sends spans", &shown, &documented("Gate that sends spans"));
}

/// Fails for every row that lacks its metric, or metric that lacks its row.
fn compare(section: &str, shown: &Metrics, documented: &Metrics) {
    let names: BTreeSet<_> = shown.keys().chain(documented.keys()).collect();
    let problem = |name: &String| match (shown.get(name), documented.get(name)) {
        (Some(_), None) => Some(format!("`{name}` has no row")),
        (None, Some(_)) => Some(format!("`{name}` has a row, and is not there")),
        (shown, documented) if shown != documented => {
            Some(format!("`{name}` is {shown:?}, and its row says {documented:?}"))
        }
        _ => None,
    };
    let problems: Vec<_> = names.into_iter().filter_map(problem).collect();
    assert!(problems.is_empty(), "docs/metrics.md, {section}:\n{}", problems.join("\n"));
}

/// The rows below a heading.
fn documented(section: &str) -> Metrics {
    let (_, text) = DOCUMENT.split_once(&format!("\n## {section}\n")).unwrap();
    let lines = text.lines().take_while(|line| !line.starts_with("## "));
    let rows: Vec<Vec<_>> = lines
        .filter_map(|line| Some(line.strip_prefix("| `")?.split('|').map(str::trim).collect()))
        .collect();
    let metrics: Metrics = rows.iter().map(|cells| row(cells)).collect();
    assert_eq!(metrics.len(), rows.len(), "a metric has two rows");
    metrics
}

fn row(cells: &[&str]) -> (String, Metric) {
    let &[name, kind, labels, _unit, meaning, _alert, ""] = cells else { panic!("six cells: {cells:?}") };
    assert!(!meaning.is_empty(), "{name}");
    let labels = labels.split("; ").filter(|label| !label.is_empty()).map(label).collect();
    (name.trim_end_matches('`').to_owned(), Metric { kind: kind.to_owned(), labels })
}

/// `name`: and its values.
fn label(text: &str) -> (String, BTreeSet<String>) {
    let (name, values) = text.split_once(": ").unwrap_or_else(|| panic!("a label without values: {text}"));
    let mut all: BTreeSet<_> = values.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    if values.contains("reasons.md") {
        let reason = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
        all.extend(REASONS.lines().filter_map(reason));
    }
    (name.trim_matches('`').to_owned(), all)
}

/// What a process shows.
fn shown(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (family, kind) = family.split_once(' ').unwrap();
            name = if kind == "counter" { format!("{family}_total") } else { family.to_owned() };
            let metric = Metric { kind: kind.to_owned(), ..Metric::default() };
            assert!(metrics.insert(name.clone(), metric).is_none(), "`{name}` is there twice");
        } else if !line.starts_with('#') {
            let metric = metrics.get_mut(&name).unwrap();
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
            for (label, value) in labels.split(',').filter_map(|pair| pair.split_once('=')) {
                if label != "le" {
                    let values = metric.labels.entry(label.to_owned()).or_default();
                    values.insert(value.trim_matches('"').to_owned());
                }
            }
        }
    }
    metrics
}
