//! Load.

use crate::cli::BenchArgs;
use std::process::ExitCode;

pub(crate) fn run(_args: &BenchArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not yet")
}
