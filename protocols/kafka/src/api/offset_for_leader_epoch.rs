//! OffsetForLeaderEpoch: where a leader epoch ended, so that clients notice a cut log (KIP-320).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName,
};
use omnilog_broker::{Command, Reply};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, name_of, own, topic_ref, unexpected};
use crate::rescue;

struct OffsetForLeaderEpoch {
    response: OffsetForLeaderEpochResponse,
    places: Vec<(usize, usize)>,
    waiting: usize,
}

/// Asks the broker for each partition.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &OffsetForLeaderEpochRequest,
) -> Result<Begun, ConnectionError> {
    let mut asked = OffsetForLeaderEpoch {
        response: OffsetForLeaderEpochResponse::default(),
        places: Vec::new(),
        waiting: 0,
    };
    let ours = call.context.leader_epoch;
    for topic in &request.topics {
        let may = call.may_know(&name_of(&topic.topic));
        let topic_index = asked.response.topics.len();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let theirs = partition.current_leader_epoch;
            let error = if !may {
                Some(ResponseError::TopicAuthorizationFailed)
            } else if theirs != -1 && theirs < ours {
                Some(ResponseError::FencedLeaderEpoch)
            } else if theirs > ours {
                Some(ResponseError::UnknownLeaderEpoch)
            } else {
                let part = asked.places.len();
                asked.places.push((topic_index, partitions.len()));
                asked.waiting += 1;
                let (index, epoch) = (partition.partition, partition.leader_epoch);
                call.command(
                    part,
                    Command::EpochEnd(topic_ref(&topic.topic), index, epoch),
                );
                None
            };
            let result = EpochEndOffset::default()
                .with_partition(partition.partition)
                .with_error_code(error.map_or(0, |error| error.code()))
                .with_leader_epoch(-1)
                .with_end_offset(-1);
            partitions.push(result);
        }
        let result = OffsetForLeaderTopicResult::default()
            .with_topic(TopicName(own(&topic.topic)))
            .with_partitions(partitions);
        asked.response.topics.push(result);
    }
    if asked.waiting == 0 {
        return call.answer(&asked.response);
    }
    Ok(Begun::Waiting(Box::new(asked)))
}

impl Exchange for OffsetForLeaderEpoch {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let (topic, partition) = self.places.get(part).copied().unwrap_or_default();
        let topic = self.response.topics.get_mut(topic);
        let Some(slot) = topic.and_then(|topic| topic.partitions.get_mut(partition)) else {
            return Err(unexpected(&answer));
        };
        match answer {
            Answer::Broker(Ok(Reply::Offset(found))) => {
                slot.leader_epoch = found.leader_epoch;
                slot.end_offset = found.offset;
            }
            Answer::Broker(Err(refusal)) => slot.error_code = rescue::refusal(&refusal).code(),
            other => return Err(unexpected(&other)),
        }
        self.waiting -= 1;
        if self.waiting > 0 {
            Ok(Progress::Waiting)
        } else {
            call.finish(&self.response)
        }
    }
}
