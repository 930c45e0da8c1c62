//! A seeded world for simulations: files that lose what was not synced.
