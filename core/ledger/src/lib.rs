//! The journal, its sealed files, recovery, checkpoints and cold reads.
