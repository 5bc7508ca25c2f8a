//! Figures with what is asked of them, and how they are shown.

use std::time::Duration;

/// One thing that was measured.
#[derive(Debug)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// What an issue demands: below it.
    limit: Option<f64>,
    /// What it hopes for.
    target: Option<f64>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, limit: None, target: None }
    }

    pub(crate) fn millis(name: impl Into<String>, value: Duration) -> Self {
        Self::new(name, value.as_secs_f64() * 1e3, "ms")
    }

    pub(crate) fn limit(self, limit: f64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    pub(crate) fn target(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Whether it is not below its limit.
    pub(crate) fn is_missed(&self) -> bool {
        self.limit.is_some_and(|limit| self.value >= limit)
    }
}

/// Shows them as soon as they are there; the table comes at the end of all.
pub(crate) fn told(figures: Vec<Figure>) -> Vec<Figure> {
    for Figure { name, value, unit, .. } in &figures {
        println!("{name}: {value:.*} {unit}", digits(*value));
    }
    figures
}

/// As a table of Markdown, to be read as it is too.
pub(crate) fn show(figures: &[Figure]) {
    if figures.is_empty() {
        return;
    }
    let rows: Vec<_> = figures.iter().map(row).collect();
    let head = ["what", "measured", "limit", "target"].map(str::to_owned);
    let widths = [0, 1, 2, 3].map(|column| {
        rows.iter().chain([&head]).map(|row: &[String; 4]| row[column].len()).max().unwrap_or_default()
    });
    println!("\n{}", line(&head, widths));
    println!("{}", line(&widths.map(|width| "-".repeat(width)), widths));
    rows.iter().for_each(|row| println!("{}", line(row, widths)));
}

fn row(figure: &Figure) -> [String; 4] {
    let Figure { name, value, unit, limit, target } = figure;
    let against = |bound: &Option<f64>| match bound {
        Some(bound) if value < bound => format!("{bound} {unit}: met"),
        Some(bound) => format!("{bound} {unit}: MISSED"),
        None => String::new(),
    };
    [name.clone(), format!("{value:.*} {unit}", digits(*value)), against(limit), against(target)]
}

/// Three that count.
fn digits(value: f64) -> usize {
    match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    }
}

fn line(cells: &[String; 4], widths: [usize; 4]) -> String {
    let cells: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    format!("| {} |", cells.join(" | "))
}

/// The value that a share of all is not above; `samples` in any order, and some.
pub(crate) fn quantile(samples: &mut [Duration], share: f64) -> Duration {
    samples.sort_unstable();
    let rank = (samples.len() as f64 * share).ceil().max(1.0);
    // The cast cannot fail: a rank is between 1 and the length.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to the length")]
    let index = rank as usize - 1;
    samples.get(index.min(samples.len().saturating_sub(1))).copied().unwrap_or_default()
}
