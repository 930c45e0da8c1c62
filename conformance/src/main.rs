//! Black-box suites with real clients and raw bytes, faults and the load program.
//!
//! It sees the built `omnilog` binary and nothing else of this workspace, so every case can also be pointed at another
//! broker of the same protocol.
#![expect(
    clippy::print_stdout,
    reason = "a command-line program: what it prints is its result"
)]

mod bench;
mod case;
mod cli;
mod clients;
mod harness;
mod raw;
mod report;
mod runner;
mod suites;

use clap::Parser;
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let cli = cli::Cli::parse();
    match cli.command {
        cli::Command::Run(args) => runner::run(&args),
        cli::Command::List(args) => {
            for case in suites::all().iter().filter(|case| args.selects(case)) {
                println!("{}", case.full_name());
            }
            Ok(ExitCode::SUCCESS)
        }
        cli::Command::Bench(args) => bench::run(&args),
    }
}
