//! A group's life with injected time; requests are numbered, replies are found by number.
