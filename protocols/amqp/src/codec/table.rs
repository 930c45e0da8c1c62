//! Field tables (section 4.2.5.5) with RabbitMQ's type letters, in their order and with their duplicates.
//!
//! Nesting is limited: a table within a table within a table costs its reader a stack frame each.

use crate::codec::{Malformed, Reader};
use bytes::{BufMut, Bytes, BytesMut};
use omnilog_broker::{Table, Value};

/// How deep tables and arrays may nest.
pub const DEPTH_MAX: usize = 32;

/// Reads a table's fields: the bytes after its length.
///
/// # Errors
/// They are none, or nest too deeply.
pub fn decode_table(bytes: Bytes) -> Result<Table, Malformed> {
    table(bytes, DEPTH_MAX)
}

fn table(bytes: Bytes, depth: usize) -> Result<Table, Malformed> {
    let depth = depth
        .checked_sub(1)
        .ok_or(Malformed("table nests too deeply"))?;
    let mut reader = Reader::new(bytes);
    let mut fields = Table::new();
    while !reader.is_empty() {
        let name = reader.short_bytes()?;
        fields.push((name, value(&mut reader, depth)?));
    }
    Ok(fields)
}

fn list(bytes: Bytes, depth: usize) -> Result<Vec<Value>, Malformed> {
    let depth = depth
        .checked_sub(1)
        .ok_or(Malformed("array nests too deeply"))?;
    let mut reader = Reader::new(bytes);
    let mut values = Vec::new();
    while !reader.is_empty() {
        values.push(value(&mut reader, depth)?);
    }
    Ok(values)
}

fn value(reader: &mut Reader, depth: usize) -> Result<Value, Malformed> {
    Ok(match reader.u8()? {
        b't' => Value::Bool(reader.u8()? != 0),
        b'b' => Value::Int(reader.u8()?.cast_signed().into()),
        b'B' => Value::Int(reader.u8()?.into()),
        b's' => Value::Int(reader.u16()?.cast_signed().into()),
        b'u' => Value::Int(reader.u16()?.into()),
        b'I' => Value::Int(reader.u32()?.cast_signed().into()),
        b'i' => Value::Int(reader.u32()?.into()),
        b'l' | b'L' => Value::Int(reader.u64()?.cast_signed()),
        b'f' => Value::Float(f32::from_bits(reader.u32()?).into()),
        b'd' => Value::Float(f64::from_bits(reader.u64()?)),
        b'D' => Value::Decimal(reader.u8()?, reader.u32()?.cast_signed().into()),
        b'S' | b'x' => Value::Bytes(reader.long_bytes()?),
        b'T' => Value::Timestamp(reader.u64()?.cast_signed()),
        b'A' => Value::List(list(reader.long_bytes()?, depth)?),
        b'F' => Value::Table(table(reader.long_bytes()?, depth)?),
        b'V' => Value::Void,
        _ => return Err(Malformed("field of an unknown type")),
    })
}

/// Writes a table with its length.
pub fn encode_table(fields: &Table, into: &mut BytesMut) {
    framed(into, |into| {
        for (name, value) in fields {
            put_short(into, name);
            put_value(value, into);
        }
    });
}

fn put_value(value: &Value, into: &mut BytesMut) {
    match value {
        Value::Void => into.put_u8(b'V'),
        Value::Bool(value) => {
            into.put_u8(b't');
            into.put_u8(u8::from(*value));
        }
        Value::Int(value) => match i32::try_from(*value) {
            Ok(value) => {
                into.put_u8(b'I');
                into.put_i32(value);
            }
            Err(_) => {
                into.put_u8(b'l');
                into.put_i64(*value);
            }
        },
        Value::Float(value) => {
            into.put_u8(b'd');
            into.put_f64(*value);
        }
        Value::Decimal(scale, value) => match i32::try_from(*value) {
            Ok(value) => {
                into.put_u8(b'D');
                into.put_u8(*scale);
                into.put_i32(value);
            }
            // The wire knows 32 bits only.
            Err(_) => {
                into.put_u8(b'd');
                into.put_f64(*value as f64 / 10f64.powi((*scale).into()));
            }
        },
        Value::Timestamp(value) => {
            into.put_u8(b'T');
            into.put_i64(*value);
        }
        Value::Bytes(value) => {
            into.put_u8(b'S');
            framed(into, |into| into.put_slice(value));
        }
        Value::Table(fields) => {
            into.put_u8(b'F');
            encode_table(fields, into);
        }
        Value::List(values) => {
            into.put_u8(b'A');
            framed(into, |into| {
                values.iter().for_each(|value| put_value(value, into))
            });
        }
    }
}

/// Writes something with its length in four bytes before it.
pub(crate) fn framed(into: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let at = into.len();
    into.put_u32(0);
    write(into);
    let length = u32::try_from(into.len() - at - 4).unwrap_or(u32::MAX);
    if let Some(place) = into.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Writes a shortstr, cut to what one can hold.
pub(crate) fn put_short(into: &mut BytesMut, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    into.put_u8(length);
    into.put_slice(bytes.get(..usize::from(length)).unwrap_or(bytes));
}
