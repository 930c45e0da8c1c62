//! Reading records that have left the in-memory tail, off the sequencer and off the runtime's threads.

use crate::api::Event;
use crate::server::Parcel;

/// Where a section lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place;

/// The readers.
#[derive(Debug, Default)]
pub(crate) struct ColdReads;

impl ColdReads {
    /// The event that a parcel becomes once its payload is read.
    pub(crate) async fn resolve(&self, _parcel: &Parcel) -> Event {
        std::future::pending().await
    }
}
