//! Compressions against themselves: round trips, caps, damage, and the forms that other clients write.

use super::*;
use proptest::prelude::*;

fn sample(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index / 7 % 251) as u8).collect()
}

fn compressed(compression: Compression, section: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    compress(compression, None, section, &mut output).unwrap();
    output
}

#[test]
fn every_compression_expands_to_what_went_in() {
    for compression in Compression::ALL {
        for bytes in [0, 1, 100, 70_000, 300_000] {
            let section = sample(bytes);
            let packed = compressed(compression, &section);
            assert_eq!(
                decompress(compression, &packed, bytes).unwrap(),
                section,
                "{compression:?}"
            );
        }
    }
}

#[test]
fn expansion_stops_at_the_cap() {
    for compression in Compression::ALL {
        let packed = compressed(compression, &vec![0; 1 << 20]);
        for limit in [0, 1, 1000, (1 << 20) - 1] {
            assert_eq!(
                decompress(compression, &packed, limit),
                Err(BatchError::ExpandedTooLarge { limit }),
                "{compression:?}"
            );
        }
        assert_eq!(
            decompress(compression, &packed, 1 << 20).unwrap().len(),
            1 << 20
        );
    }
}

#[test]
fn an_unlimited_cap_is_a_cap_like_any_other() {
    for compression in Compression::ALL {
        let packed = compressed(compression, b"small");
        assert_eq!(
            decompress(compression, &packed, usize::MAX).unwrap(),
            b"small"
        );
        assert!(decompress(compression, &packed, 4).is_err());
    }
}

#[test]
fn zstd_without_a_content_size_grows_up_to_the_cap() {
    use std::io::Write;
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&vec![0; 1 << 20]).unwrap();
    let packed = encoder.finish().unwrap();
    assert_eq!(
        decompress(Compression::Zstd, &packed, 1 << 20)
            .unwrap()
            .len(),
        1 << 20
    );
    for limit in [0, 1, 63, 64, (1 << 20) - 1] {
        let error = Err(BatchError::ExpandedTooLarge { limit });
        assert_eq!(decompress(Compression::Zstd, &packed, limit), error);
    }
}

#[test]
fn data_cut_short_is_damage() {
    for compression in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let packed = compressed(compression, &sample(100_000));
        for cut in [1, 5, packed.len() / 2, packed.len() - 1] {
            assert!(
                matches!(
                    decompress(compression, &packed[..cut], 1 << 20),
                    Err(BatchError::Compressed(_))
                ),
                "{compression:?} cut at {cut}"
            );
        }
    }
}

#[test]
fn snappy_is_read_bare_and_in_several_streams() {
    let section = sample(50_000);
    let bare = snap::raw::Encoder::new().compress_vec(&section).unwrap();
    assert_eq!(
        decompress(Compression::Snappy, &bare, 50_000).unwrap(),
        section
    );
    let stream = compressed(Compression::Snappy, &section);
    let twice = [&stream[..], &stream[..]].concat();
    assert_eq!(
        decompress(Compression::Snappy, &twice, 100_000).unwrap(),
        [&section[..], &section[..]].concat()
    );
}

#[test]
fn a_snappy_length_that_no_block_reaches_is_damage_without_the_buffer() {
    let lie = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    assert_eq!(
        decompress(Compression::Snappy, &lie, usize::MAX),
        Err(BatchError::Compressed("snappy"))
    );
}

#[test]
fn lz4_frames_of_every_shape_are_read() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write;
    let section = sample(400_000);
    for mode in [BlockMode::Independent, BlockMode::Linked] {
        for size in [
            BlockSize::Max64KB,
            BlockSize::Max256KB,
            BlockSize::Max1MB,
            BlockSize::Max4MB,
        ] {
            let frame = FrameInfo::new()
                .block_mode(mode)
                .block_size(size)
                .block_checksums(true)
                .content_checksum(true)
                .content_size(Some(section.len() as u64));
            let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(&section).unwrap();
            let packed = encoder.finish().unwrap();
            assert_eq!(
                decompress(Compression::Lz4, &packed, 400_000).unwrap(),
                section
            );
        }
    }
}

#[test]
fn lz4_is_written_as_the_java_client_reads_it() {
    let packed = compressed(Compression::Lz4, &sample(100));
    // Version 1, independent blocks, no checksums, no content size; blocks of 64 KiB.
    assert_eq!(packed[..6], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40]);
}

#[test]
fn a_zstd_window_of_128_mib_is_never_allocated() {
    use std::io::Write;
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&sample(10_000)).unwrap();
    let packed = encoder.finish().unwrap();
    assert_eq!(
        decompress(Compression::Zstd, &packed, 10_000).unwrap(),
        sample(10_000)
    );
}

#[test]
fn levels_out_of_range_are_moved_into_it() {
    for compression in Compression::ALL {
        for level in [i32::MIN, -1, 0, 100] {
            let mut packed = Vec::new();
            compress(compression, Some(level), &sample(1000), &mut packed).unwrap();
            assert_eq!(
                decompress(compression, &packed, 1000).unwrap(),
                sample(1000)
            );
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, id in 0_u8..5) {
        let _ = decompress(Compression::from_id(id).unwrap(), &bytes, 1 << 16);
    }

    #[test]
    fn mutated_data_never_panics_nor_passes_the_cap(
        section in proptest::collection::vec(any::<u8>(), 0..2000),
        id in 0_u8..5,
        position: prop::sample::Index,
        value: u8,
    ) {
        let compression = Compression::from_id(id).unwrap();
        let mut packed = compressed(compression, &section);
        if !packed.is_empty() {
            let position = position.index(packed.len());
            packed[position] = value;
        }
        if let Ok(expanded) = decompress(compression, &packed, 4096) {
            prop_assert!(expanded.len() <= 4096);
        }
    }
}
