//! Looking into a journal from outside.
