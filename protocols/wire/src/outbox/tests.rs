//! Bytes come out in the order they went in, however they are cut.

use super::*;

/// Writes all of it, at most `step` bytes at a time.
fn written(out: &mut Outbox, step: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while out.backlog_bytes() > 0 {
        let taken: Vec<u8> = out.slices(|slices| {
            let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
            bytes.take(step).collect()
        });
        out.written(taken.len());
        all.extend_from_slice(&taken);
    }
    all
}

#[test]
fn small_and_large_pieces_keep_their_order_through_partial_writes() {
    for step in [1, 7, 1024, 5000, usize::MAX] {
        let mut out = Outbox::new();
        let mut expected = Vec::new();
        for round in 0..200_u32 {
            let length = if round % 3 == 0 {
                1500
            } else {
                round as usize % 50
            };
            let piece = vec![round as u8; length];
            expected.extend_from_slice(&piece);
            if round % 2 == 0 {
                out.put_bytes(piece.into());
            } else {
                out.put_slice(&piece);
            }
        }
        assert_eq!(out.backlog_bytes(), expected.len());
        assert!(written(&mut out, step) == expected, "step {step}");
    }
}

#[test]
fn large_pieces_are_not_copied() {
    let mut out = Outbox::new();
    let large = Bytes::from(vec![1; 4096]);
    out.put_slice(b"head");
    out.put_bytes(large.clone());
    out.put_slice(b"tail");
    out.slices(|slices| {
        assert_eq!(slices.len(), 3);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
    });
    assert_eq!(out.take_bytes().len(), 4096 + 8);
    assert_eq!(out.backlog_bytes(), 0);
}
