//! What every protocol plugs into: the Protocol trait, the connection driver, frame limits, timers.
