//! Format version 1, byte for byte: a journal written by this version must be read by all later ones.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use omnilog_ledger::format::{
    self, Entry, FileHeader, Footer, GROUP_HEADER, GroupHeader, decode_frame, encode_frame,
};
use omnilog_ledger::{Frame, Section, ShardId};

/// A file of one group, with one frame, and its footer.
fn golden() -> (FileHeader, Section, Vec<u8>) {
    let header = FileHeader {
        file: 7,
        epoch: 3,
        journal: 0x0102_0304,
        created_ms: 1_700_000_000_000,
    };
    let seed = format::seed(&header);
    let section = Section {
        partition: 9,
        base_offset: 40,
        base_sequence: 50,
        last_delta: 1,
        max_timestamp: 1_700_000_000_001,
        envelope: Bytes::from_static(b"envelope"),
        batch: Bytes::from_static(b"batch"),
    };
    let sections = [section.clone()];
    let frame = Frame {
        shard: ShardId(2),
        decision: b"decision",
        sections: &sections,
    };
    let mut group = vec![0; GROUP_HEADER];
    let places = encode_frame(&frame, 11, seed, &mut group);
    let group_header = GroupHeader {
        length: u32::try_from(group.len() - GROUP_HEADER).unwrap(),
        frames: 1,
        flags: 0,
        first_lsn: 11,
        durable_lsn: 10,
    };
    group[..GROUP_HEADER].copy_from_slice(&group_header.encode(seed));
    group.resize(format::padded(group.len()), 0);
    let mut file = header.encode();
    file.extend_from_slice(&group);
    let entry = Entry {
        partition: 9,
        base_offset: 40,
        base_sequence: 50,
        last_delta: 1,
        max_timestamp: section.max_timestamp,
        shard: ShardId(2),
        position: u32::try_from(512 + places[0].0).unwrap(),
        length: u32::try_from(places[0].1).unwrap(),
    };
    file.extend_from_slice(&Footer::new(11, 11, vec![entry]).encode(1024));
    (header, section, file)
}

fn fixture() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/journal-v1.log")
}

#[test]
fn version_1_is_written_as_ever() {
    let (_, _, written) = golden();
    assert_eq!(written, std::fs::read(fixture()).unwrap());
}

#[test]
fn version_1_is_read_as_ever() {
    let (header, section, _) = golden();
    let bytes = Bytes::from(std::fs::read(fixture()).unwrap());
    assert_eq!(FileHeader::decode(&bytes), Some(Ok(header)));
    let seed = format::seed(&header);
    let group = GroupHeader::decode(&bytes[512..], seed).unwrap();
    assert_eq!(
        (group.frames, group.first_lsn, group.durable_lsn),
        (1, 11, 10)
    );
    let frame = decode_frame(&bytes.slice(512 + GROUP_HEADER..1024), seed).unwrap();
    assert_eq!(
        (frame.lsn, frame.shard, &frame.decision[..]),
        (11, ShardId(2), &b"decision"[..])
    );
    assert_eq!(frame.sections[0].0, section);
    assert!(decode_frame(&bytes.slice(512 + GROUP_HEADER..1024), seed ^ 1).is_none());
    let trailer = &bytes[bytes.len() - format::TRAILER..];
    let (position, length) = Footer::locate(trailer).unwrap();
    assert_eq!(position, 1024);
    let end = usize::try_from(position + length).unwrap();
    let footer = Footer::decode(&bytes[1024..end]).unwrap();
    assert_eq!(
        (footer.first_lsn, footer.last_lsn, footer.entries.len()),
        (11, 11, 1)
    );
}

#[test]
fn a_later_version_is_refused_by_name() {
    let (header, _, _) = golden();
    let mut bytes = header.encode();
    bytes[8] = 2;
    assert_eq!(FileHeader::decode(&bytes), Some(Err(2)));
}
