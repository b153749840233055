//! The `dropferry` program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    dropferry::cli::run()
}
