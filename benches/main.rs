//! What things cost, measured on the machine that it runs on: `make bench`.
//!
//! Each part can be asked for by its name. The last table has what issues set limits for; where one is missed, the exit
//! status says so.

mod checks;
mod feed;
mod figure;
mod gate;
mod gates;
mod issuing;
mod services;
mod workspace;

use std::process::ExitCode;

use figure::Figure;
use workspace::Outcome;

/// As in the binary: some gates run in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTS: [&str; 3] = ["gates", "services", "issuing"];

fn main() -> Outcome<ExitCode> {
    let installed = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    installed.map_err(|_| "there is another provider of signatures")?;
    // Cargo adds flags of its own.
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = wanted.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(format!("`{unknown}` is none of {PARTS:?}").into());
    }
    // As many threads as a gate's process has for feed and disk.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let figures = runtime.block_on(measure(&wanted))?;
    runtime.shutdown_background();
    figure::show(&figures);
    Ok(if figures.iter().any(Figure::is_missed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn measure(wanted: &[String]) -> Outcome<Vec<Figure>> {
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|one| one == part);
    let mut figures = Vec::new();
    if is_wanted("gates") {
        figures.extend(gates::run().await?);
    }
    if is_wanted("services") {
        figures.extend(services::run().await?);
    }
    if is_wanted("issuing") {
        issuing::run().await?;
    }
    Ok(figures)
}
