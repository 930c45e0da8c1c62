//! Looking things up over HTTP: listings with figures, and records by offset, time, key or message id. Answers are
//! JSON, a bounded page each.

use crate::admin::{Admin, ask};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use omnilog_broker::{
    Command, Fetch, FetchPartition, Fetched, FindOffset, Listed, Listing, ListingPage, Name,
    NamespaceId, OffsetAt, QueueKind, Refusal, Reply, TopicRef,
};
use omnilog_record::{Record, RecordBatch};
use serde::Deserialize;
use serde_json::{Value, json};

/// Bytes of batches that one request looks through.
const SCAN_BYTES_MAX: u64 = 8 << 20;
/// Bytes fetched at a time.
const WINDOW_BYTES: u32 = 1 << 20;
/// A batch may expand to this much.
const EXPANDED_BYTES_MAX: usize = 16 << 20;
/// Records in one answer.
const RECORDS_MAX: usize = 1000;
/// Bytes of a value in an answer.
const VALUE_BYTES_MAX: usize = 64 << 10;

type Answer = Result<Json<Value>, (StatusCode, String)>;

/// What is asked of a listing.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    namespace: Option<String>,
    /// Names after this one.
    after: Option<String>,
    /// Only this one.
    name: Option<String>,
    limit: Option<u32>,
}

pub(crate) async fn topics(State(admin): State<Admin>, Query(page): Query<Page>) -> Answer {
    let found = list(&admin, Listed::Topics, page).await?;
    let rows = found.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
            json!({
                "partition": index,
                "log_start_offset": partition.log_start_offset,
                "high_watermark": partition.high_watermark,
                "bytes": partition.bytes,
                "files": partition.files,
                "max_timestamp_ms": partition.max_timestamp_ms,
                "links": partition.links,
                "raw": partition.raw.map(|raw| json!({
                    "log_start_offset": raw.log_start_offset,
                    "bytes": raw.bytes,
                })),
            })
        });
        json!({
            "name": text(&topic.name),
            "topic": topic.topic.0,
            "provisional": topic.provisional,
            "path_template": topic.path_template,
            "partition_count": topic.partition_count,
            "partitions": partitions.collect::<Vec<_>>(),
        })
    });
    Ok(listed("topics", &rows.collect::<Vec<_>>(), found.more))
}

pub(crate) async fn queues(State(admin): State<Admin>, Query(page): Query<Page>) -> Answer {
    let found = list(&admin, Listed::Queues, page).await?;
    let rows = found.queues.iter().map(|queue| {
        json!({
            "name": text(&queue.name),
            "queue": queue.queue.0,
            "kind": match queue.kind {
                QueueKind::Classic => "queue",
                QueueKind::Session => "session",
                QueueKind::Shared => "shared subscription",
            },
            "durable": queue.durable,
            "ready": queue.ready,
            "leased": queue.leased,
            "consumers": queue.consumers,
            "set_bytes": queue.set_bytes,
            "links": queue.links,
            "link_lag": queue.link_lag,
            "deferred": queue.deferred,
        })
    });
    Ok(listed("queues", &rows.collect::<Vec<_>>(), found.more))
}

pub(crate) async fn sessions(State(admin): State<Admin>, Query(page): Query<Page>) -> Answer {
    let found = list(&admin, Listed::Sessions, page).await?;
    let rows = found.sessions.iter().map(|session| {
        json!({
            "name": text(&session.client_id),
            "session": session.session.0,
            "durable": session.durable,
            "connected": session.connected,
            "expires_at_ms": session.expires_at_ms,
            "subscriptions": session.subscriptions,
            "ready": session.ready,
            "leased": session.leased,
            "exchanges": session.exchanges,
        })
    });
    Ok(listed("sessions", &rows.collect::<Vec<_>>(), found.more))
}

fn listed(what: &str, rows: &[Value], more: bool) -> Json<Value> {
    let next = rows.last().filter(|_| more).map(|row| row["name"].clone());
    Json(json!({ what: rows, "next_after": next }))
}

async fn list(
    admin: &Admin,
    what: Listed,
    page: Page,
) -> Result<ListingPage, (StatusCode, String)> {
    let namespace = namespace(admin, page.namespace.as_deref())?;
    let only = page.name.is_some();
    let listing = Listing {
        what,
        after: untext(page.name.or(page.after).unwrap_or_default()),
        only,
        limit: page.limit.unwrap_or(100),
    };
    match ask(&admin.broker, namespace, Command::List(listing)).await {
        Some(Ok(Reply::Listed(page))) if only && is_empty(&page) => Err((
            StatusCode::NOT_FOUND,
            "there is none of this name\n".to_owned(),
        )),
        Some(Ok(Reply::Listed(page))) => Ok(*page),
        other => Err(refused(other)),
    }
}

fn is_empty(page: &ListingPage) -> bool {
    page.topics.is_empty() && page.queues.is_empty() && page.sessions.is_empty()
}

/// What is asked of a log.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    namespace: Option<String>,
    topic: String,
    #[serde(default)]
    partition: i32,
    /// From this offset on; without it and a time, from the log's start.
    offset: Option<i64>,
    /// From the first record at or after this time on, Unix milliseconds.
    time_ms: Option<i64>,
    /// Only records with this key.
    key: Option<String>,
    /// Only records with this header `message-id`.
    message_id: Option<String>,
    limit: Option<usize>,
    /// Bytes of each value to show.
    #[serde(default)]
    value_bytes: usize,
}

/// Records of a log, and where to go on.
pub(crate) async fn records(State(admin): State<Admin>, Query(wanted): Query<Wanted>) -> Answer {
    let namespace = namespace(&admin, wanted.namespace.as_deref())?;
    let topic = TopicRef::Name(untext(wanted.topic.clone()));
    let at = match (wanted.offset, wanted.time_ms) {
        (Some(offset), _) => Some(offset),
        (None, Some(time)) => {
            let found = offset_at(&admin, namespace, &topic, &wanted, OffsetAt::Time(time)).await?;
            (found >= 0).then_some(found)
        }
        (None, None) => {
            Some(offset_at(&admin, namespace, &topic, &wanted, OffsetAt::Earliest).await?)
        }
    };
    let Some(mut next) = at else {
        // Nothing is that new.
        return Ok(Json(json!({ "records": [], "next_offset": null })));
    };
    let limit = wanted.limit.unwrap_or(100).clamp(1, RECORDS_MAX);
    let mut search = Search {
        key: wanted.key.clone().map(untext),
        message_id: wanted.message_id.clone().map(untext),
        value_bytes: wanted.value_bytes.min(VALUE_BYTES_MAX),
        limit,
        rows: Vec::new(),
    };
    let mut scanned = 0;
    loop {
        let fetched = fetch(&admin, namespace, &topic, wanted.partition, next).await?;
        let bytes: usize = fetched.batches.iter().map(Bytes::len).sum();
        scanned += bytes as u64;
        let (high_watermark, log_start_offset) = (fetched.high_watermark, fetched.log_start_offset);
        let from = next;
        let looked = tokio::task::spawn_blocking(move || {
            let next = search.look(fetched.batches, from);
            (search, next)
        });
        (search, next) = looked.await.map_err(|error| failed(&error.to_string()))?;
        let over = next >= high_watermark || next == from;
        if over || search.rows.len() >= limit || scanned >= SCAN_BYTES_MAX {
            return Ok(Json(json!({
                "records": search.rows,
                "next_offset": (!over).then_some(next),
                "log_start_offset": log_start_offset,
                "high_watermark": high_watermark,
                "scanned_bytes": scanned,
            })));
        }
    }
}

/// What is looked for, and what was found.
struct Search {
    key: Option<Bytes>,
    message_id: Option<Bytes>,
    value_bytes: usize,
    limit: usize,
    rows: Vec<Value>,
}

impl Search {
    /// Looks through batches from an offset on; returns where to go on.
    fn look(&mut self, batches: Vec<Bytes>, from: i64) -> i64 {
        let mut next = from;
        for batch in batches {
            let Ok(batch) = RecordBatch::parse(batch) else {
                continue;
            };
            let header = batch.header();
            let end = header.base_offset + i64::from(header.last_offset_delta) + 1;
            if !header.attributes.is_control()
                && let Ok(records) = batch.records(EXPANDED_BYTES_MAX)
            {
                for record in records.iter().flatten() {
                    if record.offset < next {
                        continue;
                    }
                    if self.rows.len() >= self.limit {
                        return record.offset;
                    }
                    self.see(&record);
                }
            }
            next = next.max(end);
        }
        next
    }

    fn see(&mut self, record: &Record<'_>) {
        let headers: Vec<_> = record.headers().collect();
        let key_fits = self
            .key
            .as_ref()
            .is_none_or(|key| record.key == Some(&key[..]));
        let id_fits = self.message_id.as_ref().is_none_or(|id| {
            headers
                .iter()
                .any(|header| header.key == b"message-id" && header.value == Some(&id[..]))
        });
        if !key_fits || !id_fits {
            return;
        }
        let headers = headers
            .iter()
            .map(|header| json!([text(header.key), header.value.map(text)]));
        let mut row = json!({
            "offset": record.offset,
            "timestamp_ms": record.timestamp,
            "key": record.key.map(text),
            "headers": headers.collect::<Vec<_>>(),
            "value_bytes": record.value.map(<[u8]>::len),
        });
        if self.value_bytes > 0 {
            let shown = record
                .value
                .map(|value| value.get(..self.value_bytes).unwrap_or(value));
            row["value"] = json!(shown.map(text));
        }
        self.rows.push(row);
    }
}

async fn offset_at(
    admin: &Admin,
    namespace: NamespaceId,
    topic: &TopicRef,
    wanted: &Wanted,
    at: OffsetAt,
) -> Result<i64, (StatusCode, String)> {
    let find = FindOffset {
        topic: topic.clone(),
        partition: wanted.partition,
        at,
        committed: false,
    };
    match ask(&admin.broker, namespace, Command::FindOffset(find)).await {
        Some(Ok(Reply::Offset(found))) => Ok(found.offset),
        other => Err(refused(other)),
    }
}

async fn fetch(
    admin: &Admin,
    namespace: NamespaceId,
    topic: &TopicRef,
    partition: i32,
    offset: i64,
) -> Result<Fetched, (StatusCode, String)> {
    let fetch = Fetch {
        partitions: vec![FetchPartition {
            topic: topic.clone(),
            partition,
            offset,
            bytes_max: WINDOW_BYTES,
            current_leader_epoch: -1,
        }],
        wait_ms_max: 0,
        bytes_min: 0,
        bytes_max: WINDOW_BYTES,
        committed: false,
    };
    match ask(&admin.broker, namespace, Command::Fetch(fetch)).await {
        Some(Ok(Reply::Fetched(mut parts))) => match parts.pop() {
            Some(Ok(fetched)) => Ok(fetched),
            Some(Err(refusal)) => Err(refused(Some(Err(refusal)))),
            None => Err(failed("nothing was fetched")),
        },
        other => Err(refused(other)),
    }
}

fn namespace(admin: &Admin, name: Option<&str>) -> Result<NamespaceId, (StatusCode, String)> {
    let Some(name) = name else {
        return Ok(admin.broker.default_namespace());
    };
    let found = admin.broker.namespace(name.as_bytes());
    found.ok_or_else(|| (StatusCode::NOT_FOUND, "no such namespace\n".to_owned()))
}

fn failed(what: &str) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{what}\n"))
}

fn refused(reply: Option<Result<Reply, Refusal>>) -> (StatusCode, String) {
    match reply {
        Some(Err(Refusal::NotFound(_, name))) => {
            let name = String::from_utf8_lossy(&name).into_owned();
            (StatusCode::NOT_FOUND, format!("there is no {name}\n"))
        }
        Some(Err(Refusal::NoPartition)) => {
            (StatusCode::NOT_FOUND, "no such partition\n".to_owned())
        }
        Some(Err(Refusal::OffsetOutOfRange {
            log_start_offset,
            high_watermark,
        })) => (
            StatusCode::RANGE_NOT_SATISFIABLE,
            format!("the log has the offsets {log_start_offset} to {high_watermark}\n"),
        ),
        Some(other) => failed(&format!("{other:?}")),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the broker does not answer\n".to_owned(),
        ),
    }
}

/// Bytes as text, where they are; else `base64:` and their encoding.
fn text(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("base64:") => text.to_owned(),
        _ => format!("base64:{}", STANDARD.encode(bytes)),
    }
}

/// The bytes that such a text stands for.
fn untext(text: String) -> Name {
    match text
        .strip_prefix("base64:")
        .map(|code| STANDARD.decode(code))
    {
        Some(Ok(bytes)) => bytes.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{text, untext};

    #[test]
    fn any_bytes_have_a_text_that_stands_for_them() {
        for bytes in [&b"plain"[..], b"", b"\xff\x00", b"base64:x"] {
            assert_eq!(&untext(text(bytes))[..], bytes);
        }
    }
}
