//! Sessions against a broker that the test plays.
