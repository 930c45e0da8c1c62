//! Principals, credentials, SASL mechanisms and access rules.
//!
//! [`Authority`] answers who a connection may be. A password check that is slow on purpose comes back as a
//! [`PasswordCheck`], to be run where slowness hurts nobody; everything else answers at once. [`sasl`] has the
//! mechanisms as step functions. Nothing here does I/O or knows a protocol.

mod access;
mod authority;
mod cache;
mod credentials;
mod principal;
pub mod sasl;

pub use access::{AccessRules, AllowAll, Operation, Resource};
pub use authority::{Authority, PasswordCheck, Verdict};
pub use credentials::{CredentialError, Credentials, User, hash_password};
pub use principal::{Denied, Origin, Principal};
