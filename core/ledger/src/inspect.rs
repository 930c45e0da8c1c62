//! Looking into a journal's directory from outside, without changing anything: what its files hold, and whether it is
//! whole.

use crate::env::{Env, File};
use crate::format::{self, DecodedFrame, FileHeader, SECTOR};
use crate::frame::{Lsn, ShardId};
use crate::recovery::find_footer;
use crate::scan::{Groups, Scanned, scan};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// Where it lies.
    pub path: PathBuf,
    /// Its header; `None` if it can't be read.
    pub header: Option<FileHeader>,
    /// It has a footer that can be read.
    pub sealed: bool,
    /// Its first frame; 0 if it has none.
    pub first_lsn: Lsn,
    /// Its last frame that can be read.
    pub last_lsn: Lsn,
    /// Frames that can be read.
    pub frames: u64,
    /// Where the first bad frame, or the unwritten rest, begins; `None`: the file is written to its end.
    pub ends_at: Option<u64>,
    /// The newest frame that its groups declare durable.
    pub declared_durable: Lsn,
    /// Its last group marks a clean stop.
    pub clean: bool,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// A frame, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameReport {
    /// The file's number.
    pub file: u32,
    /// Where in it.
    pub position: u64,
    /// Its number.
    pub lsn: Lsn,
    /// The epoch it was written in.
    pub epoch: u32,
    /// Whose it is.
    pub shard: ShardId,
    /// Bytes of its decision.
    pub decision_bytes: usize,
    /// Its sections.
    pub sections: Vec<SectionReport>,
}

/// A section, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionReport {
    /// The log that keeps it, or 0.
    pub partition: u64,
    /// Its first offset.
    pub base_offset: i64,
    /// Its first sequence.
    pub base_sequence: u64,
    /// Records, less one.
    pub last_delta: u32,
    /// Its greatest timestamp.
    pub max_timestamp: i64,
    /// Bytes of its envelope.
    pub envelope_bytes: usize,
    /// Bytes of its batch.
    pub batch_bytes: usize,
}

/// What [`verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// The files, oldest first.
    pub files: Vec<FileReport>,
    /// The last frame of the unbroken run.
    pub last_lsn: Lsn,
    /// The newest frame that anything declares durable.
    pub declared_durable: Lsn,
    /// What is wrong; empty for a journal that opens. A torn tail is not wrong.
    pub problems: Vec<String>,
}

/// The journal files of a data directory, oldest first.
fn files(env: &Env, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = env.files.list(&dir.join("journal"))?;
    paths.retain(|path| path.extension().is_some_and(|name| name == "log"));
    Ok(paths)
}

fn header(file: &dyn File) -> io::Result<Result<FileHeader, String>> {
    let mut start = vec![0; SECTOR];
    let read = file.read_at(&mut start, 0)?;
    start.truncate(read);
    Ok(match FileHeader::decode(&start) {
        Some(Ok(header)) => Ok(header),
        Some(Err(version)) => Err(format!("format version {version} is unknown")),
        None if start.iter().all(|byte| *byte == 0) => Err("not begun yet".to_owned()),
        None => Err("the file's header is damaged".to_owned()),
    })
}

fn open(env: &Env, path: &Path) -> io::Result<(Arc<dyn File>, Result<FileHeader, String>)> {
    let file = env.files.open_read(path)?;
    let header = header(&*file)?;
    Ok((file, header))
}

/// Calls `each` with every readable frame of the journal in this data directory, in order, until it returns `false`.
pub fn dump(env: &Env, dir: &Path, each: &mut dyn FnMut(FrameReport) -> bool) -> io::Result<()> {
    for path in files(env, dir)? {
        let (file, Ok(header)) = open(env, &path)? else {
            continue;
        };
        let mut groups = Groups::new(&*file, format::seed(&header), u64::MAX)?;
        while let Some(group) = groups.next()? {
            for (frame, position) in group.frames {
                if !each(report(&header, &frame, position)) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn report(header: &FileHeader, frame: &DecodedFrame, position: u64) -> FrameReport {
    let sections = frame.sections.iter().map(|(section, _)| SectionReport {
        partition: section.partition,
        base_offset: section.base_offset,
        base_sequence: section.base_sequence,
        last_delta: section.last_delta,
        max_timestamp: section.max_timestamp,
        envelope_bytes: section.envelope.len(),
        batch_bytes: section.batch.len(),
    });
    FrameReport {
        file: header.file,
        position,
        lsn: frame.lsn,
        epoch: header.epoch,
        shard: frame.shard,
        decision_bytes: frame.decision.len(),
        sections: sections.collect(),
    }
}

/// Reads the whole journal in this data directory and says whether it would open. `checkpoint`: the newest whole
/// checkpoint's frame, up to which frames may be missing.
pub fn verify(env: &Env, dir: &Path, checkpoint: Lsn) -> io::Result<Verification> {
    let mut found = Verification {
        declared_durable: checkpoint,
        ..Verification::default()
    };
    for path in files(env, dir)? {
        let report = inspect(env, path)?;
        if let Some(problem) = &report.problem {
            found
                .problems
                .push(format!("{}: {problem}", report.path.display()));
        }
        found.declared_durable = found.declared_durable.max(report.declared_durable);
        if report.first_lsn != 0 {
            let next = found.last_lsn + 1;
            if report.first_lsn != next && report.first_lsn > checkpoint + 1 {
                let path = report.path.display();
                let first = report.first_lsn;
                found.problems.push(format!(
                    "{path}: begins with frame {first} instead of {next}"
                ));
            }
            found.last_lsn = report.last_lsn;
        }
        found.files.push(report);
    }
    if found.last_lsn < found.declared_durable {
        let (last, durable) = (found.last_lsn, found.declared_durable);
        found
            .problems
            .push(format!("frames end at {last}, but {durable} was durable"));
    }
    Ok(found)
}

fn inspect(env: &Env, path: PathBuf) -> io::Result<FileReport> {
    let (file, header) = open(env, &path)?;
    let mut report = FileReport {
        path,
        header: None,
        sealed: false,
        first_lsn: 0,
        last_lsn: 0,
        frames: 0,
        ends_at: None,
        declared_durable: 0,
        clean: false,
        problem: None,
    };
    let header = match header {
        Ok(header) => header,
        Err(problem) => {
            report.problem = (problem != "not begun yet").then_some(problem);
            return Ok(report);
        }
    };
    report.header = Some(header);
    let mut sections = 0;
    let Scanned {
        first_lsn,
        last_lsn,
        frames,
        torn_at,
        declared_durable,
        clean,
        ..
    } = scan(&*file, format::seed(&header), u64::MAX, &mut |frame, _| {
        sections += frame.sections.len();
    })?;
    report.first_lsn = first_lsn;
    report.last_lsn = last_lsn;
    report.frames = frames;
    report.ends_at = torn_at;
    report.declared_durable = declared_durable;
    report.clean = clean;
    if let Some((_, _, footer)) = find_footer(&*file)? {
        report.sealed = true;
        if footer.last_lsn != report.last_lsn || footer.first_lsn != report.first_lsn {
            let (first, last) = (footer.first_lsn, footer.last_lsn);
            report.problem = Some(format!(
                "not all of its frames {first} to {last} are readable"
            ));
        } else if footer.entries.len() != sections {
            report.problem = Some("its footer does not name all its sections".to_owned());
        }
    }
    Ok(report)
}
