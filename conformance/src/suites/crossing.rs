//! What one protocol writes, the others read: the 3 x 3 matrix, the provenance table, and where records are kept.

mod mapping;

use super::{ALL, driver, restarted};
use crate::case::{Case, Client};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = [
        "matrix/kafka_to_kafka",
        "matrix/kafka_to_amqp",
        "matrix/kafka_to_mqtt",
        "matrix/amqp_to_kafka",
        "matrix/amqp_to_amqp",
        "matrix/amqp_to_mqtt",
        "matrix/mqtt_to_kafka",
        "matrix/mqtt_to_amqp",
        "matrix/mqtt_to_mqtt",
        "names/pika_default_publish_readable_from_kafka",
        "names/provenance",
        "names/one_name_three_readers",
        "names/session_competes_for_a_queue",
        "names/session_gives_back_to_a_queue",
        "names/keys_share_a_queue",
    ]
    .map(|name| driver("crossing", ALL, Client::Python, name))
    .to_vec();
    let tables = "tables/latest_values_are_retained";
    cases.push(restarted("crossing", ALL, Client::Python, tables));
    cases.extend(mapping::cases());
    cases
}
