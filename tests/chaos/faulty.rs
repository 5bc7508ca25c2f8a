//! `scoregate` with the feature `fault-injection`: see src/fault.rs.

use std::process::ExitCode;

fn main() -> ExitCode {
    scoregate::cli::main()
}
