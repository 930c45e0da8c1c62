//! Content headers (section 4.2.6.1): class, body size, and the basic class's fourteen properties.

use crate::codec::table::{self, framed, put_short};
use crate::codec::{Malformed, Reader};
use bytes::{BufMut, Bytes, BytesMut};
use omnilog_broker::Table;

/// A content header, its properties still as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentHeader {
    /// The class: 60, basic.
    pub class: u16,
    /// How long the body is.
    pub body_bytes: u64,
    /// Property flags and property list, verbatim.
    pub properties: Bytes,
}

impl ContentHeader {
    /// Decodes a header frame's payload, except for its properties.
    ///
    /// # Errors
    /// It is too short.
    pub fn decode(payload: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let class = reader.u16()?;
        let _weight = reader.u16()?;
        let body_bytes = reader.u64()?;
        if reader.left() < 2 {
            return Err(Malformed("content header without property flags"));
        }
        Ok(Self {
            class,
            body_bytes,
            properties: reader.rest(),
        })
    }
}

/// The basic class's properties. Strings are slices of the header's bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// `content-type`
    pub content_type: Option<Bytes>,
    /// `content-encoding`
    pub content_encoding: Option<Bytes>,
    /// `headers`: the table's fields, not decoded.
    pub headers: Option<Bytes>,
    /// `delivery-mode`: 2 is persistent.
    pub delivery_mode: Option<u8>,
    /// `priority`
    pub priority: Option<u8>,
    /// `correlation-id`
    pub correlation_id: Option<Bytes>,
    /// `reply-to`
    pub reply_to: Option<Bytes>,
    /// `expiration`: milliseconds, as text.
    pub expiration: Option<Bytes>,
    /// `message-id`
    pub message_id: Option<Bytes>,
    /// `timestamp`: seconds since the epoch.
    pub timestamp: Option<u64>,
    /// `type`
    pub kind: Option<Bytes>,
    /// `user-id`
    pub user_id: Option<Bytes>,
    /// `app-id`
    pub app_id: Option<Bytes>,
    /// `cluster-id`
    pub cluster_id: Option<Bytes>,
}

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const KIND: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;

impl Properties {
    /// Decodes flags and list.
    ///
    /// # Errors
    /// They are malformed, or name properties that the class does not have.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let flags = r.u16()?;
        if flags & 0b11 != 0 {
            return Err(Malformed("unknown property flags"));
        }
        let has = |flag: u16| flags & flag != 0;
        macro_rules! read {
            ($flag:expr, $read:expr) => {
                if has($flag) { Some($read) } else { None }
            };
        }
        let properties = Self {
            content_type: read!(CONTENT_TYPE, r.short_bytes()?),
            content_encoding: read!(CONTENT_ENCODING, r.short_bytes()?),
            headers: read!(HEADERS, r.long_bytes()?),
            delivery_mode: read!(DELIVERY_MODE, r.u8()?),
            priority: read!(PRIORITY, r.u8()?),
            correlation_id: read!(CORRELATION_ID, r.short_bytes()?),
            reply_to: read!(REPLY_TO, r.short_bytes()?),
            expiration: read!(EXPIRATION, r.short_bytes()?),
            message_id: read!(MESSAGE_ID, r.short_bytes()?),
            timestamp: read!(TIMESTAMP, r.u64()?),
            kind: read!(KIND, r.short_bytes()?),
            user_id: read!(USER_ID, r.short_bytes()?),
            app_id: read!(APP_ID, r.short_bytes()?),
            cluster_id: read!(CLUSTER_ID, r.short_bytes()?),
        };
        if !r.is_empty() {
            return Err(Malformed("bytes after the properties"));
        }
        Ok(properties)
    }

    /// The `headers` property's fields; none where it is not given.
    ///
    /// # Errors
    /// They are malformed.
    pub fn header_table(&self) -> Result<Table, Malformed> {
        self.headers
            .clone()
            .map_or_else(|| Ok(Table::new()), table::decode_table)
    }

    /// Writes flags and list.
    pub fn encode(&self, into: &mut BytesMut) {
        let at = into.len();
        let mut flags = 0;
        into.put_u16(0);
        let mut short = |flag: u16, value: &Option<Bytes>, into: &mut BytesMut| {
            if let Some(value) = value {
                flags |= flag;
                put_short(into, value);
            }
        };
        short(CONTENT_TYPE, &self.content_type, into);
        short(CONTENT_ENCODING, &self.content_encoding, into);
        if let Some(headers) = &self.headers {
            framed(into, |into| into.put_slice(headers));
        }
        if let Some(mode) = self.delivery_mode {
            into.put_u8(mode);
        }
        if let Some(priority) = self.priority {
            into.put_u8(priority);
        }
        short(CORRELATION_ID, &self.correlation_id, into);
        short(REPLY_TO, &self.reply_to, into);
        short(EXPIRATION, &self.expiration, into);
        short(MESSAGE_ID, &self.message_id, into);
        if let Some(timestamp) = self.timestamp {
            into.put_u64(timestamp);
        }
        short(KIND, &self.kind, into);
        short(USER_ID, &self.user_id, into);
        short(APP_ID, &self.app_id, into);
        short(CLUSTER_ID, &self.cluster_id, into);
        let mut given = |flag: u16, is: bool| flags |= if is { flag } else { 0 };
        given(HEADERS, self.headers.is_some());
        given(DELIVERY_MODE, self.delivery_mode.is_some());
        given(PRIORITY, self.priority.is_some());
        given(TIMESTAMP, self.timestamp.is_some());
        if let Some(place) = into.get_mut(at..at + 2) {
            place.copy_from_slice(&flags.to_be_bytes());
        }
    }

    /// The same with other headers; with none, without the property.
    pub fn with_headers(mut self, headers: &Table) -> Self {
        self.headers = (!headers.is_empty()).then(|| {
            let mut table = BytesMut::new();
            table::encode_table(headers, &mut table);
            table.split_off(4).freeze()
        });
        self
    }

    /// Flags and list.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        self.encode(&mut bytes);
        bytes.freeze()
    }
}
