//! What a principal may do. The rules behind the trait are allow-all for now; the places that ask are not.

use crate::Principal;

/// What somebody wants to do to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Create, alter or delete it.
    Configure,
    /// Publish or append to it.
    Write,
    /// Consume or fetch from it, or bind from it.
    Read,
}

/// Something that access is granted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource<'a> {
    /// Entering a namespace at all.
    Namespace(&'a [u8]),
    /// A topic, exchange, queue or session by its name, in its namespace.
    Name(&'a [u8], &'a [u8]),
    /// A consumer group.
    Group(&'a [u8], &'a [u8]),
    /// A transactional id, in its namespace.
    Transaction(&'a [u8], &'a [u8]),
}

/// Decides what a principal may do.
pub trait AccessRules: Send + Sync + std::fmt::Debug {
    /// May they?
    fn allows(&self, principal: &Principal, operation: Operation, resource: Resource<'_>) -> bool;
}

/// Everybody who got in may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl AccessRules for AllowAll {
    fn allows(&self, _: &Principal, _: Operation, _: Resource<'_>) -> bool {
        true
    }
}
