//! A journal in memory with the manners of object storage.

/// A journal in memory.
#[derive(Debug, Default)]
pub struct FakeJournal;
