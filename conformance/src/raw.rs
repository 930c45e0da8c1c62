//! Minimal raw clients.
