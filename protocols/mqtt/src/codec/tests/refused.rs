//! Bytes that break the rules, and the reason code that says so.

use super::*;

fn reason(version: Version, bytes: &str) -> u8 {
    let bytes = hex(bytes);
    let header = match FixedHeader::parse(&bytes, 1 << 20) {
        Ok(header) => header.expect("a whole header"),
        Err(violation) => return violation.reason as u8,
    };
    let body = Bytes::copy_from_slice(&bytes[header.length..]);
    match decode(version, header, &body) {
        Ok(packet) => panic!("accepted: {packet:?}"),
        Err(violation) => violation.reason as u8,
    }
}

#[test]
fn version_5_packets_get_the_reason_the_specification_asks_for() {
    for (bytes, code, what) in [
        ("00 00", 0x81, "type 0"),
        ("80 00", 0x81, "SUBSCRIBE flags"),
        ("60 02 0001", 0x81, "PUBREL flags"),
        ("A0 00", 0x81, "UNSUBSCRIBE flags"),
        ("41 02 0001", 0x81, "PUBACK flags"),
        ("C0 01 00", 0x81, "PINGREQ with a body"),
        ("30 FF FF FF FF 7F", 0x81, "five-byte remaining length"),
        ("30 FF FF FF 7F", 0x95, "larger than the limit"),
        ("C0 80 00", 0x81, "over-long remaining length"),
        ("36 05 0001 61 0001", 0x81, "QoS 3"),
        ("38 04 0001 61 00", 0x81, "DUP with QoS 0"),
        ("32 06 0001 61 0000 00", 0x82, "packet id 0"),
        ("32 03 0001 61", 0x81, "no packet id"),
        ("30 04 0001 23 00", 0x90, "wildcard in a topic"),
        ("30 03 0000 00", 0x82, "empty topic without alias"),
        ("30 06 0000 03 23 0000", 0x94, "alias 0"),
        ("30 04 0001 00 00", 0x81, "U+0000"),
        ("30 06 0003 EDA080 00", 0x81, "a surrogate"),
        ("30 05 0002 C328 00", 0x81, "not UTF-8"),
        ("30 05 0001 61 05 00", 0x81, "properties beyond the packet"),
        ("30 06 0001 61 02 01 02", 0x82, "payload format 2"),
        ("30 08 0001 61 04 01 00 01 00", 0x82, "property twice"),
        ("30 06 0001 61 02 24 01", 0x81, "property of another packet"),
        ("30 06 0001 61 02 7F 01", 0x81, "unknown property"),
        (
            "30 06 0001 61 02 0B 01",
            0x82,
            "subscription identifier from a client",
        ),
        (
            "30 08 0001 61 04 08 0001 23",
            0x82,
            "response topic with a wildcard",
        ),
        ("82 03 0001 00", 0x82, "SUBSCRIBE without filter"),
        ("82 07 0001 00 0001 61 03", 0x82, "subscription QoS 3"),
        ("82 07 0001 00 0001 61 40", 0x81, "reserved option bits"),
        ("82 07 0001 00 0001 61 30", 0x82, "retain handling 3"),
        (
            "82 09 0001 02 0B 00 0001 61 00",
            0x82,
            "subscription identifier 0",
        ),
        ("82 07 0000 00 0001 61 00", 0x82, "packet id 0"),
        ("A2 03 0001 00", 0x82, "UNSUBSCRIBE without filter"),
        ("40 01 00", 0x81, "half a packet id"),
        ("40 02 0000", 0x82, "packet id 0"),
        ("40 03 0001 92", 0x82, "code of another packet"),
        ("62 03 0001 10", 0x82, "code of another packet"),
        ("E0 01 01", 0x82, "code of no DISCONNECT"),
        ("20 02 00 00", 0x82, "CONNACK from a client"),
        ("90 03 0001 00", 0x82, "SUBACK from a client"),
        ("B0 02 0001", 0x82, "UNSUBACK from a client"),
        ("D0 00", 0x82, "PINGRESP from a client"),
        ("10 00", 0x82, "a second CONNECT"),
    ] {
        assert_eq!(reason(Version::V5, bytes), code, "{what}: {bytes}");
    }
}

#[test]
fn version_3_packets_are_held_to_its_rules() {
    for bytes in [
        "F0 00",
        "82 06 0001 0001 61 04",
        "82 06 0001 0001 61 80",
        "40 03 0001 00",
        "36 05 0001 61 0001",
    ] {
        reason(Version::V311, bytes);
    }
    // Not forbidden before version 5.
    assert!(decode_bytes(Version::V311, &hex("C0 80 00")).is_ok());
}

fn refused(bytes: &str) -> ConnectError {
    decode_connect(&hex(bytes)).expect_err(bytes)
}

#[test]
fn connects_are_refused_in_the_right_words() {
    assert_eq!(
        refused("10 0D 0004 4D515454 03 02 0000 0001 78"),
        ConnectError::VersionOld
    );
    assert_eq!(
        refused("10 0D 0004 4D515454 06 02 0000 0001 78"),
        ConnectError::VersionNew
    );
    assert!(matches!(
        refused("10 0D 0004 48545450 04 02 0000 0001 78"),
        ConnectError::Silent(_)
    ));
    for (bytes, what) in [
        ("10 0D 0004 4D515454 04 03 0000 0001 78", "reserved flag"),
        (
            "10 0D 0004 4D515454 04 0A 0000 0001 78",
            "will QoS without will",
        ),
        (
            "10 0D 0004 4D515454 04 22 0000 0001 78",
            "will retain without will",
        ),
        (
            "10 0D 0004 4D515454 04 42 0000 0001 78",
            "password without user",
        ),
        (
            "10 13 0004 4D515454 04 1E 0000 0001 78 0001 74 0001 70",
            "will QoS 3",
        ),
        (
            "10 13 0004 4D515454 04 06 0000 0001 78 0001 23 0001 70",
            "will topic with a wildcard",
        ),
        (
            "10 0E 0004 4D515454 04 02 0000 0001 78 00",
            "bytes at the end",
        ),
        ("10 0C 0004 4D515454 04 02 0000 0001", "truncated"),
        ("10 0D 0004 4D515454 04 02 0000 0001 00", "U+0000"),
    ] {
        let error = refused(bytes);
        assert!(
            matches!(error, ConnectError::Violation(Version::V311, _)),
            "{what}: {error:?}"
        );
    }
    for (bytes, code, what) in [
        (
            "10 11 0004 4D515454 05 02 0000 03 21 0000 0001 78",
            0x82,
            "receive maximum 0",
        ),
        (
            "10 13 0004 4D515454 05 02 0000 05 27 00000000 0001 78",
            0x82,
            "packet size 0",
        ),
        (
            "10 10 0004 4D515454 05 02 0000 02 17 02 0001 78",
            0x82,
            "a truth value of 2",
        ),
        (
            "10 11 0004 4D515454 05 02 0000 03 23 0001 0001 78",
            0x81,
            "property of another packet",
        ),
        (
            "10 11 0004 4D515454 05 02 0000 03 16 0000 0001 78",
            0x82,
            "data without method",
        ),
    ] {
        let ConnectError::Violation(Version::V5, violation) = refused(bytes) else {
            panic!("{what}")
        };
        assert_eq!(violation.reason as u8, code, "{what}");
    }
    // Version 5 allows a password without a user name.
    assert!(decode_connect(&hex("10 11 0004 4D515454 05 42 0000 00 0001 78 0001 70")).is_ok());
}

#[test]
fn size_is_refused_before_the_body_has_come() {
    let violation = FixedHeader::parse(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 1024).unwrap_err();
    assert_eq!(violation.reason, ReasonCode::PacketTooLarge);
    assert_eq!(FixedHeader::parse(&[0x30, 0xFF], 1024), Ok(None));
    assert!(FixedHeader::parse(&[0x00], 1024).is_err());
}
