//! `scoregate` with all its features, faults that tests plant (src/fault.rs) among them.

use std::process::ExitCode;

fn main() -> ExitCode {
    scoregate::cli::main()
}
