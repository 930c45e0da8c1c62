//! The walk against `kafka-protocol`'s decoders: bodies generated from our schema decode there to
//! the last byte, in every version; and what is hostile is refused before it is decoded.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages as m;
use kafka_protocol::protocol::Decodable;
use proptest::prelude::*;

use super::*;

/// Decodes a body with the oracle; how many bytes it left, or its error.
fn decode_with_oracle(api: Api, version: i16, body: &Bytes) -> Result<usize, String> {
    let mut rest = body.clone();
    macro_rules! decode {
        ($($api:ident => $message:ident,)*) => {
            match api {
                $(Api::$api => m::$message::decode(&mut rest, version).map(drop),)*
            }
        };
    }
    let result = decode! {
        Produce => ProduceRequest,
        Fetch => FetchRequest,
        ListOffsets => ListOffsetsRequest,
        Metadata => MetadataRequest,
        OffsetCommit => OffsetCommitRequest,
        OffsetFetch => OffsetFetchRequest,
        FindCoordinator => FindCoordinatorRequest,
        JoinGroup => JoinGroupRequest,
        Heartbeat => HeartbeatRequest,
        LeaveGroup => LeaveGroupRequest,
        SyncGroup => SyncGroupRequest,
        DescribeGroups => DescribeGroupsRequest,
        ListGroups => ListGroupsRequest,
        SaslHandshake => SaslHandshakeRequest,
        ApiVersions => ApiVersionsRequest,
        CreateTopics => CreateTopicsRequest,
        DeleteTopics => DeleteTopicsRequest,
        DeleteRecords => DeleteRecordsRequest,
        InitProducerId => InitProducerIdRequest,
        OffsetForLeaderEpoch => OffsetForLeaderEpochRequest,
        DescribeConfigs => DescribeConfigsRequest,
        SaslAuthenticate => SaslAuthenticateRequest,
        CreatePartitions => CreatePartitionsRequest,
        DeleteGroups => DeleteGroupsRequest,
        IncrementalAlterConfigs => IncrementalAlterConfigsRequest,
        DescribeCluster => DescribeClusterRequest,
    };
    result.map(|()| rest.len()).map_err(|e| e.to_string())
}

/// Makes a valid body of a version out of random choices.
struct Maker<'a> {
    out: BytesMut,
    version: i16,
    flexible: bool,
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Maker<'_> {
    fn body(api: Api, version: i16, choices: &[u8]) -> Bytes {
        let mut maker = Maker {
            out: BytesMut::new(),
            version,
            flexible: api.is_flexible(version),
            choices: choices.iter().cycle(),
        };
        maker.structure(body(api));
        maker.out.freeze()
    }

    fn choose(&mut self, below: u8) -> usize {
        usize::from(self.choices.next().copied().unwrap_or(0) % below)
    }

    fn structure(&mut self, fields: &'static [Field]) {
        for field in fields {
            if field.tag.is_none() && field.exists_in(self.version) {
                self.value(field.shape);
            }
        }
        if !self.flexible {
            return;
        }
        let known: Vec<&Field> = fields
            .iter()
            .filter(|f| f.tag.is_some() && f.exists_in(self.version))
            .collect();
        let known = &known[..self.choose(known.len() as u8 + 1)];
        let unknown = self.choose(3);
        self.varint(known.len() + unknown);
        for field in known {
            self.varint(field.tag.unwrap() as usize);
            let outer = std::mem::take(&mut self.out);
            self.value(field.shape);
            let content = std::mem::replace(&mut self.out, outer);
            self.varint(content.len());
            self.out.put_slice(&content);
        }
        for tag in 0..unknown {
            let size = self.choose(40);
            self.varint(tag + 1000);
            self.varint(size);
            self.out.put_bytes(0xAB, size);
        }
    }

    fn value(&mut self, shape: Shape) {
        match shape {
            Shape::Fixed(size) => (0..size).for_each(|_| {
                let byte = self.choose(255) as u8;
                self.out.put_u8(byte);
            }),
            Shape::String => {
                let size = self.choose(200);
                if self.flexible {
                    self.varint(size + 1)
                } else {
                    self.out.put_i16(size as i16)
                }
                self.out.put_bytes(b'a', size);
            }
            Shape::Bytes => {
                let size = self.choose(200);
                self.count(size);
                self.out.put_bytes(0xCD, size);
            }
            Shape::Struct(fields) => self.structure(fields),
            Shape::Structs(fields) => self.elements(|maker| maker.structure(fields)),
            Shape::FixedArray(size) => self.elements(|maker| maker.value(Shape::Fixed(size))),
            Shape::Strings => self.elements(|maker| maker.value(Shape::String)),
        }
    }

    fn elements(&mut self, mut element: impl FnMut(&mut Self)) {
        let count = self.choose(4);
        self.count(count);
        (0..count).for_each(|_| element(self));
    }

    fn count(&mut self, count: usize) {
        if self.flexible {
            self.varint(count + 1)
        } else {
            self.out.put_i32(count as i32)
        }
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }
}

fn every_version() -> impl Iterator<Item = (Api, i16)> {
    Api::ALL.iter().flat_map(|&api| {
        let range = api.versions();
        (range.min..=range.max).map(move |version| (api, version))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_schema_agrees_with_the_decoders(choices in prop::collection::vec(any::<u8>(), 1..400)) {
        for (api, version) in every_version() {
            let body = Maker::body(api, version, &choices);
            let walked = check(api, version, &body);
            prop_assert_eq!(walked, Ok(()), "{:?} v{}", api, version);
            let left = decode_with_oracle(api, version, &body);
            prop_assert_eq!(left, Ok(0), "{:?} v{}", api, version);
        }
    }

    #[test]
    fn a_body_cut_anywhere_is_refused(choices in prop::collection::vec(any::<u8>(), 1..60)) {
        for (api, version) in every_version() {
            let body = Maker::body(api, version, &choices);
            for end in 0..body.len() {
                prop_assert!(check(api, version, &body.slice(..end)).is_err());
            }
        }
    }

    #[test]
    fn what_passes_the_walk_decodes_within_its_means(
        choices in prop::collection::vec(any::<u8>(), 1..200),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for (api, version) in every_version() {
            let mut body = Maker::body(api, version, &choices).to_vec();
            for (at, byte) in &damage {
                if !body.is_empty() {
                    let at = at.index(body.len());
                    body[at] = *byte;
                }
            }
            let body = Bytes::from(body);
            if check(api, version, &body).is_ok() {
                // Whatever it says, it comes back: no panic, no reservation beyond the body.
                let _ = decode_with_oracle(api, version, &body);
            }
        }
    }
}

#[test]
fn counts_beyond_the_frame_are_refused_in_every_version() {
    for (api, version) in every_version() {
        for filler in [0x7fu8, 0xff, 0x80, 0x0f, 0x01] {
            for length in [4, 9, 40, 400] {
                let body = Bytes::from(vec![filler; length]);
                if check(api, version, &body).is_ok() {
                    let _ = decode_with_oracle(api, version, &body);
                }
            }
        }
    }
    // The frame that made a decoder ask for 154 GB.
    let body = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(check(Api::Metadata, 1, &body), Err(CodecError::Truncated));
}

#[test]
fn the_number_of_elements_is_bounded() {
    let topics = |count: usize| {
        let mut body = BytesMut::new();
        body.put_i32(count as i32);
        body.put_bytes(0, count * 2);
        body.freeze()
    };
    assert_eq!(check(Api::Metadata, 1, &topics(ELEMENTS_MAX)), Ok(()));
    let error = CodecError::TooManyElements(ELEMENTS_MAX);
    assert_eq!(
        check(Api::Metadata, 1, &topics(ELEMENTS_MAX + 1)),
        Err(error)
    );
}

#[test]
fn a_known_tag_must_have_the_size_of_its_type() {
    // Fetch v18 with nothing in it but tag 0 (cluster id "ab"), its size given one too small.
    let mut body = BytesMut::new();
    body.put_bytes(0, 4 + 4 + 4 + 1 + 4 + 4);
    body.put_slice(&[1, 1, 1]); // no topics, none forgotten, empty rack
    body.put_slice(&[1, 0, 2, 3, b'a', b'b']);
    assert_eq!(
        check(Api::Fetch, 18, &body.freeze()),
        Err(CodecError::TagSize(0))
    );
}
