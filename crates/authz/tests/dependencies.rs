//! The core decides and does nothing else: Cargo itself shows that it cannot.

use std::collections::BTreeSet;
use std::process::Command;

/// Runtimes, transports, stores, configuration and logging.
const OUTSIDE: [&str; 24] = [
    "async-std",
    "axum",
    "clap",
    "config",
    "diesel",
    "env_logger",
    "figment",
    "futures-executor",
    "h2",
    "http",
    "hyper",
    "log",
    "mio",
    "prost",
    "reqwest",
    "rustls",
    "slog",
    "smol",
    "socket2",
    "sqlx",
    "tokio",
    "tonic",
    "tower",
    "tracing",
];

#[test]
fn normal_dependencies_do_no_io() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", "scoregate-authz", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let packages: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(packages.contains("scoregate-authz") && packages.contains("aws-lc-rs"), "{packages:?}");
    let is_outside = |package: &&&str| {
        OUTSIDE.iter().any(|name| **package == *name || package.starts_with(&format!("{name}-")))
    };
    assert_eq!(packages.iter().find(is_outside), None);
}
