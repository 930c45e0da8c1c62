//! The admin interface: health, readiness, metrics and look-ups over HTTP.

mod lookup;

use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use omnilog_broker::{Broker, ClientInfo, Command, Event, NamespaceId, Refusal, Reply, Stats};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long the broker may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What the admin interface shows.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) broker: Broker,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ready: Arc<AtomicBool>,
}

/// Serves it until `stop` fires.
pub(crate) async fn serve(admin: Admin, listener: TcpListener, stop: CancellationToken) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/topics", get(lookup::topics))
        .route("/api/queues", get(lookup::queues))
        .route("/api/sessions", get(lookup::sessions))
        .route("/api/records", get(lookup::records))
        .with_state(admin);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        warn!(%error, "admin interface failed");
    }
}

/// Ready: listening, and the broker answers.
async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    if !admin.ready.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n");
    }
    match stats(&admin.broker).await {
        Some(_) => (StatusCode::OK, "ready\n"),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the broker does not answer\n",
        ),
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let stats = stats(&admin.broker).await;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match admin.metrics.render(stats.as_ref()) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            error.to_string(),
        ),
    }
}

/// Asks the broker for its figures.
async fn stats(broker: &Broker) -> Option<Stats> {
    match ask(broker, broker.default_namespace(), Command::Stats).await {
        Some(Ok(Reply::Stats(mut stats))) => {
            stats.commands_bytes = broker.commands_bytes();
            Some(*stats)
        }
        _ => None,
    }
}

/// Asks the broker, as any client does; `None`: it does not answer in time.
async fn ask(
    broker: &Broker,
    namespace: NamespaceId,
    command: Command,
) -> Option<Result<Reply, Refusal>> {
    let info = ClientInfo {
        principal: "admin".into(),
        protocol: "admin".to_owned(),
        peer: "admin".to_owned(),
    };
    let mut client = broker.connect(namespace, info);
    client.send(1, command);
    let mut events = Vec::new();
    timeout(ANSWER_MAX, async {
        loop {
            client.recv(&mut events).await;
            for event in events.drain(..) {
                if let Event::Reply {
                    correlation: 1,
                    result,
                } = event
                {
                    return *result;
                }
            }
        }
    })
    .await
    .ok()
}
