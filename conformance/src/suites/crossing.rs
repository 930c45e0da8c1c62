//! What one protocol writes, the others read: the 3 x 3 matrix and the provenance table.

use super::{ALL, driver};
use crate::case::{Case, Client};

pub(super) fn cases() -> Vec<Case> {
    [
        "crossing/kafka_to_kafka",
        "crossing/kafka_to_amqp",
        "crossing/kafka_to_mqtt",
        "crossing/amqp_to_kafka",
        "crossing/amqp_to_amqp",
        "crossing/amqp_to_mqtt",
        "crossing/mqtt_to_kafka",
        "crossing/mqtt_to_amqp",
        "crossing/mqtt_to_mqtt",
        "crossing/pika_default_publish_readable_from_kafka",
        "crossing/provenance",
        "crossing/one_name_three_readers",
    ]
    .map(|name| driver("crossing", ALL, Client::Python, name))
    .to_vec()
}
