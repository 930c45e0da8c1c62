//! Black-box suites with real clients and raw bytes, faults and the load program.

fn main() {}
