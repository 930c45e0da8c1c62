//! DeleteRecords: moves log start offsets forward (KIP-107).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};
use omnilog_auth::Operation;
use omnilog_broker::{Command, Reply};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, name_of, own, topic_ref, unexpected};
use crate::rescue;

struct DeleteRecords {
    response: DeleteRecordsResponse,
    places: Vec<(usize, usize)>,
    waiting: usize,
}

/// Asks the broker for each partition.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &DeleteRecordsRequest,
) -> Result<Begun, ConnectionError> {
    let mut delete = DeleteRecords {
        response: DeleteRecordsResponse::default(),
        places: Vec::new(),
        waiting: 0,
    };
    for topic in &request.topics {
        let may = call.may(Operation::Configure, &name_of(&topic.name));
        let topic_index = delete.response.topics.len();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let mut result = DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index)
                .with_low_watermark(-1);
            if may {
                let part = delete.places.len();
                delete.places.push((topic_index, partitions.len()));
                delete.waiting += 1;
                let (index, offset) = (partition.partition_index, partition.offset);
                let command = Command::DeleteRecords(topic_ref(&topic.name), index, offset);
                call.command(part, command);
            } else {
                result.error_code = ResponseError::TopicAuthorizationFailed.code();
            }
            partitions.push(result);
        }
        let result = DeleteRecordsTopicResult::default()
            .with_name(TopicName(own(&topic.name)))
            .with_partitions(partitions);
        delete.response.topics.push(result);
    }
    if delete.waiting == 0 {
        return call.answer(&delete.response);
    }
    Ok(Begun::Waiting(Box::new(delete)))
}

impl Exchange for DeleteRecords {
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
            Answer::Broker(Ok(Reply::Offset(found))) => slot.low_watermark = found.offset,
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
