//! A name as an object keeps it.

use crate::api::Name;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;
use std::ops::Deref;

/// A name within its object, if it is short: who looks for the name has the object at hand, and need not look elsewhere.
/// It is written as a [`Name`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label(SmallVec<[u8; 24]>);

impl Label {
    /// A copy, to be given away.
    pub(crate) fn name(&self) -> Name {
        Name::copy_from_slice(self)
    }
}

impl Deref for Label {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Label {
    fn from(name: &[u8]) -> Self {
        let mut label = SmallVec::new();
        label.reserve_exact(name.len());
        label.extend_from_slice(name);
        Self(label)
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(&Bytes::deserialize(deserializer)?[..]))
    }
}

#[cfg(test)]
mod tests {
    use super::Label;
    use crate::api::Name;

    #[test]
    fn it_is_written_as_a_name_and_takes_no_more() {
        assert!(size_of::<Label>() <= size_of::<Name>());
        for name in ["", "short", "one that is too long to lie within its object"] {
            let name = Name::from_static(name.as_bytes());
            let label = Label::from(&name[..]);
            assert_eq!(label.name(), name);
            let bytes = postcard::to_allocvec(&label).unwrap_or_default();
            assert_eq!(postcard::to_allocvec(&name), Ok(bytes.clone()));
            assert_eq!(postcard::from_bytes(&bytes), Ok(label));
        }
    }
}
