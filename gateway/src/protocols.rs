//! The protocols that are served. A new one is a crate and a line here.

use crate::config::Settings;
use omnilog_amqp::{AmqpConfig, AmqpProtocol};
use omnilog_auth::{Authority, Credentials, User};
use omnilog_kafka::KafkaConfig;
use omnilog_kafka::KafkaProtocol;
use omnilog_kafka::group::GroupConfig;
use omnilog_mqtt::{MqttConfig, MqttProtocol};
use omnilog_wire::{Authenticator, DriverLimits, Protocol};
use std::sync::Arc;
use std::time::Duration;

/// Everybody who may log in: the configured users, or RabbitMQ's `guest` where there are none.
pub(crate) fn authenticator(settings: &Settings) -> anyhow::Result<Authenticator> {
    let mut credentials = if settings.users.is_empty() {
        Credentials::guest()
    } else {
        Credentials::new()
    };
    for (name, user) in &settings.users {
        let known = match (&user.password, &user.argon2) {
            (_, Some(hash)) => User::argon2(name, hash)?,
            (password, None) => User::plain(password.clone().unwrap_or_default()),
        };
        credentials.add(name, known.loopback_only(user.loopback_only))?;
    }
    Ok(Authenticator::new(
        Authority::new(credentials),
        settings.limits.password_checks_max,
    ))
}

/// What a connection may take.
pub(crate) fn driver_limits(settings: &Settings) -> DriverLimits {
    let limits = &settings.limits;
    DriverLimits {
        write_backlog_bytes_max: limits.write_backlog_bytes_max,
        peer_stall_max: Duration::from_millis(limits.peer_stall_ms_max),
        shutdown_grace: Duration::from_millis(limits.shutdown_ms_max / 2),
        ..DriverLimits::default()
    }
}

/// All protocols, in the order in which they are asked about a connection's first bytes.
pub(crate) fn all(settings: &Settings) -> anyhow::Result<Vec<Arc<dyn Protocol>>> {
    let authenticator = authenticator(settings)?;
    let limits = driver_limits(settings);
    Ok(vec![
        KafkaProtocol::new(kafka(settings), authenticator.clone(), limits),
        AmqpProtocol::new(amqp(settings), authenticator.clone(), limits),
        MqttProtocol::new(mqtt(settings), authenticator, limits),
    ])
}

fn kafka(settings: &Settings) -> KafkaConfig {
    let kafka = &settings.kafka;
    KafkaConfig {
        cluster_id: kafka.cluster_id.clone(),
        node_id: kafka.node_id,
        request_bytes_max: kafka.request_bytes_max,
        fetch_bytes_max: kafka.fetch_bytes_max,
        auto_create_topics: kafka.auto_create_topics,
        idle_max: Duration::from_millis(kafka.idle_ms_max),
        groups: GroupConfig {
            initial_rebalance_delay: Duration::from_millis(kafka.rebalance_delay_ms),
            session_timeout_min: Duration::from_millis(kafka.session_timeout_ms_min),
            session_timeout_max: Duration::from_millis(kafka.session_timeout_ms_max),
            members_max: kafka.group_members_max,
            offsets_retention: Duration::from_millis(kafka.offsets_retention_ms),
        },
        broker: crate::engine::broker_config(settings),
        ..KafkaConfig::default()
    }
}

fn amqp(settings: &Settings) -> AmqpConfig {
    let amqp = &settings.amqp;
    AmqpConfig {
        product: amqp.product.clone(),
        version: amqp.version.clone(),
        cluster_name: amqp.cluster_name.clone(),
        frame_bytes_max: amqp.frame_bytes_max,
        channels_max: amqp.channels_max,
        heartbeat_s: amqp.heartbeat_s,
        message_bytes_max: amqp.message_bytes_max,
        handshake_timeout: Duration::from_millis(settings.limits.handshake_ms_max),
        ..AmqpConfig::default()
    }
}

fn mqtt(settings: &Settings) -> MqttConfig {
    let mqtt = &settings.mqtt;
    MqttConfig {
        packet_bytes_max: mqtt.packet_bytes_max,
        connect_timeout: Duration::from_millis(settings.limits.handshake_ms_max),
        receive_max: mqtt.receive_max,
        inflight_max: mqtt.inflight_max,
        topic_alias_max: mqtt.topic_alias_max,
        keep_alive_s_max: mqtt.keep_alive_s_max,
        session_expiry_s_max: (mqtt.session_expiry_s_max > 0).then_some(mqtt.session_expiry_s_max),
        subscriptions_max: mqtt.subscriptions_max,
        ..MqttConfig::default()
    }
}
