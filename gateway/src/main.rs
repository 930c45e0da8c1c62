//! One log under Kafka, AMQP 0-9-1 and MQTT: the gateway.

fn main() {}
