//! What OffsetCommit and TxnOffsetCommit share: the positions that a request names, checked, and what is answered of
//! each.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use omnilog_auth::Operation;
use omnilog_broker::{GroupOffset, Refusal};

use super::{Call, name_of, own};
use crate::group::GroupError;
use crate::rescue;

/// The longest metadata string that is stored with a position (`offset.metadata.max.bytes`).
const METADATA_BYTES_MAX: usize = 4096;

/// A position as a request names it.
pub(super) struct Position<'a> {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: Option<&'a StrBytes>,
}

/// A topic's positions in the answer: their partitions and error codes.
pub(super) struct TopicCodes {
    pub(super) name: TopicName,
    pub(super) partitions: Vec<(i32, i16)>,
}

/// The positions of a request.
#[derive(Default)]
pub(super) struct Positions {
    topics: Vec<TopicCodes>,
    /// Where in `topics` each position belongs that may be stored.
    places: Vec<(usize, usize)>,
    /// Those, until the coordinator is asked.
    offsets: Vec<GroupOffset>,
}

impl Positions {
    /// Takes a topic's positions; what must not be stored gets its error.
    pub(super) fn topic<'a>(
        &mut self,
        call: &Call<'_>,
        topic: &TopicName,
        positions: impl Iterator<Item = Position<'a>>,
    ) {
        let name = name_of(topic);
        let may = call.may(Operation::Read, &name);
        let mut partitions = Vec::with_capacity(positions.size_hint().0);
        for position in positions {
            let metadata = position.metadata.map_or(&b""[..], |text| text.as_bytes());
            let code = if !may {
                ResponseError::TopicAuthorizationFailed.code()
            } else if metadata.len() > METADATA_BYTES_MAX {
                ResponseError::OffsetMetadataTooLarge.code()
            } else {
                self.places.push((self.topics.len(), partitions.len()));
                self.offsets.push(GroupOffset {
                    topic: name.clone(),
                    partition: position.partition,
                    offset: position.offset,
                    leader_epoch: position.leader_epoch,
                    metadata: Bytes::copy_from_slice(metadata),
                });
                0
            };
            partitions.push((position.partition, code));
        }
        self.topics.push(TopicCodes {
            name: TopicName(own(topic)),
            partitions,
        });
    }

    /// What may be stored, to be passed on.
    pub(super) fn take(&mut self) -> Vec<GroupOffset> {
        std::mem::take(&mut self.offsets)
    }

    /// The same error for everything that might have been stored.
    pub(super) fn fail(&mut self, error: ResponseError) {
        for place in 0..self.places.len() {
            self.set(place, error.code());
        }
    }

    /// What the coordinator says, of each or of all.
    pub(super) fn hear(
        &mut self,
        answer: Result<Vec<Result<(), Refusal>>, GroupError>,
        code: impl Fn(&Refusal) -> ResponseError,
    ) {
        match answer {
            Ok(each) => {
                for (place, result) in each.into_iter().enumerate() {
                    self.set(place, result.err().map_or(0, |no| code(&no).code()));
                }
            }
            Err(error) => self.fail(rescue::group(error)),
        }
    }

    /// What is answered.
    pub(super) fn answer(self) -> impl Iterator<Item = TopicCodes> {
        self.topics.into_iter()
    }

    fn set(&mut self, place: usize, code: i16) {
        let place = self.places.get(place);
        let slot = place.and_then(|(topic, partition)| {
            let topic = self.topics.get_mut(*topic)?;
            topic.partitions.get_mut(*partition)
        });
        if let Some((_, known)) = slot {
            *known = code;
        }
    }
}
