//! `omnilog journal`: looking into a journal that no server has open. Nothing in it is changed.

use crate::cli::JournalCommand;
use crate::data_dir::DataDir;
use anyhow::{Context, bail, ensure};
use omnilog_ledger::inspect::{self, FileReport, FrameReport};
use omnilog_ledger::{Env, LocalCheckpoints};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

pub(crate) fn run(command: &JournalCommand) -> anyhow::Result<()> {
    let (JournalCommand::Dump { dir } | JournalCommand::Verify { dir }) = command;
    ensure!(
        dir.join("journal").is_dir(),
        "there is no journal in {}: it takes a data directory",
        dir.display()
    );
    let _lock = DataDir::lock(dir)?;
    let env = Env::real();
    let out = BufWriter::new(io::stdout().lock());
    match command {
        JournalCommand::Dump { dir } => dump(&env, dir, out),
        JournalCommand::Verify { dir } => verify(&env, dir, out),
    }
}

/// Prints a line for each frame and each of its sections.
fn dump(env: &Env, dir: &Path, mut out: impl Write) -> anyhow::Result<()> {
    let mut written = Ok(());
    inspect::dump(env, dir, &mut |frame| {
        written = print_frame(&mut out, &frame);
        written.is_ok()
    })?;
    match written.and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

fn print_frame(out: &mut impl Write, frame: &FrameReport) -> io::Result<()> {
    let FrameReport {
        file,
        position,
        lsn,
        epoch,
        shard,
        decision_bytes,
        sections,
    } = frame;
    writeln!(
        out,
        "frame {lsn} at {file:08}:{position} epoch {epoch} shard {shard} decision {decision_bytes} bytes",
        shard = shard.0,
    )?;
    for section in sections {
        writeln!(
            out,
            "  records {} log {} offset {} sequence {} timestamp {} envelope {} batch {} bytes",
            u64::from(section.last_delta) + 1,
            section.partition,
            section.base_offset,
            section.base_sequence,
            section.max_timestamp,
            section.envelope_bytes,
            section.batch_bytes,
        )?;
    }
    Ok(())
}

/// Reads everything; prints a line for each file and what is wrong.
fn verify(env: &Env, dir: &Path, mut out: impl Write) -> anyhow::Result<()> {
    let checkpoints = dir.join("checkpoints");
    let (checkpoint, damaged) = match checkpoints.is_dir() {
        true => {
            LocalCheckpoints::inspect(env, &checkpoints).context("cannot read the checkpoints")?
        }
        false => Default::default(),
    };
    let found = inspect::verify(env, dir, checkpoint).context("cannot read the journal")?;
    for file in &found.files {
        print_file(&mut out, file)?;
    }
    let frames: u64 = found.files.iter().map(|file| file.frames).sum();
    writeln!(
        out,
        "{frames} frames in {} files, the last is {}; durable up to {}; newest checkpoint at {checkpoint}",
        found.files.len(),
        found.last_lsn,
        found.declared_durable,
    )?;
    for problem in &found.problems {
        writeln!(out, "problem: {problem}")?;
    }
    for path in &damaged {
        writeln!(out, "problem: {} is damaged", path.display())?;
    }
    out.flush()?;
    if found.problems.is_empty() && damaged.is_empty() {
        return Ok(());
    }
    bail!("the journal in {} is damaged", dir.display())
}

fn print_file(out: &mut impl Write, file: &FileReport) -> io::Result<()> {
    let state = match (file.sealed, file.clean) {
        (true, _) => "sealed",
        (false, true) => "closed cleanly",
        (false, false) => "open",
    };
    write!(
        out,
        "{}: {} frames, {} to {}, {state}",
        file.path.display(),
        file.frames,
        file.first_lsn,
        file.last_lsn,
    )?;
    match file.ends_at {
        Some(position) => writeln!(out, ", ends at byte {position}"),
        None => writeln!(out),
    }
}
