//! The binary with every feature of Cargo.toml.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

/// It can plant faults (src/fault.rs), and plants none unless it is told to; and it has traces. Built here, since it must not
/// lie where the real one does, and once for all that need either: the whole crate is compiled again for it.
pub(crate) static FEATURED: LazyLock<PathBuf> = LazyLock::new(|| {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--workspace", "--features", "scoregate/fault-injection,scoregate/otlp"])
        .args(["--example", "scoregate-featured", "--message-format", "json-render-diagnostics"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(built.status.success(), "the binary with all features does not build");
    let messages = String::from_utf8(built.stdout).unwrap();
    let mut messages = messages.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.expect("the path of the binary with all features")
});
