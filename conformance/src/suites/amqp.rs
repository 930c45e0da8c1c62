//! AMQP 0-9-1: pika, the RabbitMQ Java client, amqplib.

use super::{AMQP, driver, restarted};
use crate::case::{Case, Client};

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        "pika/exchanges",
        "pika/confirm_and_mandatory",
        "pika/get_ack_nack_reject",
        "pika/requeue_on_close",
        "pika/prefetch",
        "pika/prefetch_shared_and_each",
        "pika/priorities",
        "pika/single_active_consumer",
        "pika/consumer_priority",
        "pika/competing_consumers",
        "pika/exclusive_and_auto_delete",
        "pika/errors",
        "pika/queue_delete_and_purge",
        "pika/properties",
        "pika/many_channels",
        "pika/max_length_drop_head",
        "pika/max_length_bytes",
        "pika/delayed_messages",
        "pika/delayed_messages_are_routed_when_due",
        "pika/delayed_exchange_needs_a_type",
        "pika/max_length_reject_publish",
        "pika/message_ttl",
        "pika/expiration",
        "pika/ttl_of_nothing",
        "pika/queue_expires",
        "pika/dead_letters_of_refusals",
        "pika/dead_letters_go_round",
        "pika/delivery_limit",
        "pika/delayed_retry",
        "pika/delayed_retry_of_what",
        "pika/queue_arguments",
        "pika/random_topologies",
        "pika/x_match_is_checked",
    ]
    .map(|name| driver("amqp", AMQP, Client::Python, name))
    .to_vec();
    cases.extend(
        [
            "rabbitmq_java/confirm_consume_ack",
            "rabbitmq_java/competing_consumers",
            "rabbitmq_java/errors",
            "rabbitmq_java/properties",
        ]
        .map(|name| driver("amqp", AMQP, Client::Java, name)),
    );
    cases.extend(
        [
            "amqplib/confirm_and_competing_consumers",
            "amqplib/mandatory_return",
            "amqplib/nack_requeues",
            "amqplib/errors",
        ]
        .map(|name| driver("amqp", AMQP, Client::Node, name)),
    );
    cases.push(restarted(
        "amqp",
        AMQP,
        Client::Python,
        "pika/durable_survives_restart",
    ));
    cases
}
