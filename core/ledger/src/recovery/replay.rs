//! The frames of a file, one after the other.

use super::RecoveredFrame;
use crate::env::File;
use crate::format::DecodedFrame;
use crate::frame::Lsn;
use crate::scan::Groups;
use std::io;
use std::sync::Arc;

/// A file to replay: its number, epoch, seed, handle and length.
pub(super) type Replayed = (u32, u32, u32, Arc<dyn File>, u64);

/// The frames of one file.
pub(super) struct Replay<'a> {
    groups: io::Result<Groups<'a>>,
    file: u32,
    epoch: u32,
    /// The last frame there is.
    known: Lsn,
    last: Lsn,
    ahead: std::vec::IntoIter<(DecodedFrame, u64)>,
    over: bool,
}

impl<'a> Replay<'a> {
    pub(super) fn new((id, epoch, seed, file, end): &'a Replayed, known: Lsn) -> Self {
        Self {
            groups: Groups::new(&**file, *seed, *end),
            file: *id,
            epoch: *epoch,
            known,
            last: 0,
            ahead: Vec::new().into_iter(),
            over: false,
        }
    }

    /// The next group's frames; `false` behind the last.
    fn go_on(&mut self) -> io::Result<bool> {
        let groups = match &mut self.groups {
            Ok(groups) => groups,
            Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        while let Some(group) = groups.next()? {
            if !group.frames.is_empty() {
                self.ahead = group.frames.into_iter();
                return Ok(true);
            }
            if groups.torn_at().is_some() {
                break;
            }
        }
        if self.last == self.known {
            return Ok(false);
        }
        let (file, lsn) = (self.file, self.last + 1);
        let what = format!("sealed journal file {file} is damaged at frame {lsn}");
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

impl Iterator for Replay<'_> {
    type Item = io::Result<RecoveredFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            if let Some((frame, _)) = self.ahead.next() {
                self.last = frame.lsn;
                let sections = frame.sections.into_iter();
                return Some(Ok(RecoveredFrame {
                    lsn: frame.lsn,
                    epoch: self.epoch,
                    shard: frame.shard,
                    decision: frame.decision,
                    sections: sections.map(|(section, _)| section).collect(),
                    file: self.file,
                }));
            }
            if self.last == self.known && self.known != 0 {
                break;
            }
            match self.go_on() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
        self.over = true;
        None
    }
}
