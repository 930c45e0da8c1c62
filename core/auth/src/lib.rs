//! Principals, credentials, SASL mechanisms and access rules.
