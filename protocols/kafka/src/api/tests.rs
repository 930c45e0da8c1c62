//! Whole requests in, whole responses out.
