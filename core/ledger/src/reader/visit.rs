//! Going through a log's entries over all the files that it lies in.

use super::{Index, LogRange, Shelf, ShelfFile};
use crate::cluster::is_clustered;
use crate::format::Entry;
use std::collections::VecDeque;
use std::io;

/// Files to look into, in order.
type Shelved = VecDeque<(u32, ShelfFile)>;

/// Files as they were at one moment.
struct Looked {
    clustered: Shelved,
    /// Those that were named, if any of them is there; else all.
    journal: Shelved,
    /// That is all.
    all: bool,
    /// If it isn't, and all must be seen as it was at this moment: all.
    others: Option<Shelved>,
}

/// A file's entries of one log, ahead of a reader.
struct Run {
    id: u32,
    file: ShelfFile,
    index: Index,
    ahead: VecDeque<Entry>,
}

impl Run {
    /// The next entry, before `until`.
    fn head(&self, until: i64) -> Option<Entry> {
        let next = self.ahead.front().copied();
        next.filter(|entry| entry.base_offset < until)
    }

    /// Takes the next entry.
    fn advance(&mut self) {
        if let Some(taken) = self.ahead.pop_front()
            && self.ahead.is_empty()
        {
            let (partition, next) = (taken.partition, taken.end());
            self.index.some_from(partition, next, &mut self.ahead);
        }
    }
}

impl Shelf {
    /// The clustered files, and the journal files in order: these, or all if none of these is there.
    fn files(&self, range: LogRange<'_>) -> Looked {
        let files = self.files.lock();
        let copy = |(id, file): (&u32, &ShelfFile)| (*id, file.clone());
        let clustered = files.iter().filter(|(id, _)| is_clustered(**id)).map(copy);
        let all = || {
            let journal = files.iter().filter(|(id, _)| !is_clustered(**id));
            journal.map(copy).collect()
        };
        let named = range.files.iter().filter_map(|id| files.get_key_value(id));
        let named: Shelved = named.map(copy).collect();
        let here = named.is_empty();
        Looked {
            clustered: clustered.collect(),
            journal: if here { all() } else { named },
            all: here,
            others: (!here && range.copies.is_some()).then(all),
        }
    }

    /// Goes through a log's entries in offset order, within the range, for as long as `visit` wants more. Copies, and
    /// what lies behind them, are seen as they were at one moment: nothing can be changed and copied in between.
    pub(crate) fn visit(
        &self,
        range: LogRange<'_>,
        visit: &mut dyn FnMut(u32, &ShelfFile, &Entry) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut files = self.files(range);
        let own = range.partition;
        let Some(copies) = range.copies else {
            return self.visit_in(files, range, visit);
        };
        let copied = Looked {
            clustered: files.clustered.clone(),
            journal: Shelved::new(),
            all: true,
            others: None,
        };
        let range = LogRange {
            partition: copies,
            copies: None,
            ..range
        };
        let (mut from, mut more) = (range.from, true);
        self.visit_in(copied, range, &mut |id, file, entry| {
            from = from.max(entry.end());
            more = visit(id, file, entry)?;
            Ok(more)
        })?;
        if !more {
            return Ok(());
        }
        // The files that were named are those of what was asked for first.
        if from > range.from
            && let Some(others) = files.others.take()
        {
            files.journal = others;
            files.all = true;
        }
        let own = LogRange {
            partition: own,
            from,
            ..range
        };
        self.visit_in(files, own, visit)
    }

    fn visit_in(
        &self,
        files: Looked,
        range: LogRange<'_>,
        visit: &mut dyn FnMut(u32, &ShelfFile, &Entry) -> io::Result<bool>,
    ) -> io::Result<()> {
        let all = files.all;
        let mut journal = files.journal;
        // Journal files follow each other in offset order; clustered ones may lie anywhere among them.
        let mut open: Vec<Run> = Vec::new();
        for (id, file) in &files.clustered {
            open.extend(self.run(*id, file.clone(), range)?);
        }
        let mut chain = self.next_run(&mut journal, range)?;
        // Journal files that were not named may have what lies before a clustered file's.
        if chain.is_none() && !all {
            let anywhere = match files.others {
                Some(others) => Looked {
                    clustered: files.clustered,
                    journal: others,
                    all: true,
                    others: None,
                },
                None => self.files(LogRange {
                    files: &[],
                    ..range
                }),
            };
            return self.visit_in(anywhere, range, visit);
        }
        let first = |run: &Run| {
            let head = run.head(range.until);
            head.map_or(i64::MAX, |entry| entry.base_offset)
        };
        loop {
            let lowest = (0..open.len()).min_by_key(|at| open.get(*at).map_or(i64::MAX, first));
            let here = lowest.and_then(|at| open.get_mut(at));
            let chained = chain.as_mut();
            let run = match (here, chained) {
                (Some(here), Some(chained)) if first(here) <= first(chained) => here,
                (_, Some(chained)) => chained,
                (Some(here), None) => here,
                (None, None) => return Ok(()),
            };
            let Some(entry) = run.head(range.until) else {
                return Ok(());
            };
            if !visit(run.id, &run.file, &entry)? {
                return Ok(());
            }
            run.advance();
            open.retain(|run| run.head(range.until).is_some());
            if chain
                .as_ref()
                .is_some_and(|run| run.head(range.until).is_none())
            {
                chain = self.next_run(&mut journal, range)?;
                if chain.is_none() && !all {
                    return Ok(());
                }
            }
        }
    }

    fn next_run(
        &self,
        files: &mut VecDeque<(u32, ShelfFile)>,
        range: LogRange<'_>,
    ) -> io::Result<Option<Run>> {
        while let Some((id, file)) = files.pop_front() {
            if let Some(run) = self.run(id, file, range)? {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    /// What a file has of a range, if anything.
    fn run(&self, id: u32, file: ShelfFile, range: LogRange<'_>) -> io::Result<Option<Run>> {
        let index = self.index(id, &file)?;
        let mut ahead = VecDeque::new();
        index.some_from(range.partition, range.from, &mut ahead);
        let run = Run {
            id,
            file,
            index,
            ahead,
        };
        Ok(run.head(range.until).is_some().then_some(run))
    }
}
