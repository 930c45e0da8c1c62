//! Variable-length integers as Kafka's records write them: base 128, least significant group first, zigzag for signed ones.
//!
//! Readers take the bytes off the front of a slice and reject a varint that does not fit its type.

/// The longest encoding of a 32-bit varint, in bytes.
pub const VARINT_BYTES_MAX: usize = 5;
/// The longest encoding of a 64-bit varint, in bytes.
pub const VARLONG_BYTES_MAX: usize = 10;

/// Why a varint cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarintError {
    /// The bytes end within the varint.
    Truncated,
    /// The varint does not fit its type.
    TooLong,
}

/// Maps small numbers of either sign to small unsigned ones.
#[inline]
#[must_use]
pub const fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

/// The inverse of [`zigzag32`].
#[inline]
#[must_use]
pub const fn unzigzag32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

/// Maps small numbers of either sign to small unsigned ones.
#[inline]
#[must_use]
pub const fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag64`].
#[inline]
#[must_use]
pub const fn unzigzag64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Bytes of `value` as an unsigned varint.
#[inline]
#[must_use]
pub const fn unsigned_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Bytes of `value` as a signed 32-bit varint.
#[inline]
#[must_use]
pub const fn varint_bytes(value: i32) -> usize {
    unsigned_bytes(zigzag32(value) as u64)
}

/// Bytes of `value` as a signed 64-bit varint.
#[inline]
#[must_use]
pub const fn varlong_bytes(value: i64) -> usize {
    unsigned_bytes(zigzag64(value))
}

/// Appends an unsigned varint.
#[inline]
pub fn put_unsigned(output: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        output.push(value as u8 | 0x80);
        value >>= 7;
    }
    output.push(value as u8);
}

/// Appends a signed 32-bit varint.
#[inline]
pub fn put_varint(output: &mut Vec<u8>, value: i32) {
    put_unsigned(output, u64::from(zigzag32(value)));
}

/// Appends a signed 64-bit varint.
#[inline]
pub fn put_varlong(output: &mut Vec<u8>, value: i64) {
    put_unsigned(output, zigzag64(value));
}

/// Takes an unsigned 32-bit varint off the front of `input`.
///
/// # Errors
/// See [`VarintError`]; `input` is then as it was.
#[inline]
pub fn take_unsigned32(input: &mut &[u8]) -> Result<u32, VarintError> {
    if let [first @ 0..=0x7f, rest @ ..] = *input {
        *input = rest;
        return Ok(u32::from(*first));
    }
    let mut value = 0_u32;
    for (index, byte) in input.iter().copied().enumerate().take(VARINT_BYTES_MAX) {
        if index == VARINT_BYTES_MAX - 1 && byte > 0x0f {
            return Err(VarintError::TooLong);
        }
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *input = &input[index + 1..];
            return Ok(value);
        }
    }
    Err(VarintError::Truncated)
}

/// Takes an unsigned 64-bit varint off the front of `input`.
///
/// # Errors
/// See [`VarintError`]; `input` is then as it was.
#[inline]
pub fn take_unsigned64(input: &mut &[u8]) -> Result<u64, VarintError> {
    if let [first @ 0..=0x7f, rest @ ..] = *input {
        *input = rest;
        return Ok(u64::from(*first));
    }
    let mut value = 0_u64;
    for (index, byte) in input.iter().copied().enumerate().take(VARLONG_BYTES_MAX) {
        if index == VARLONG_BYTES_MAX - 1 && byte > 0x01 {
            return Err(VarintError::TooLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *input = &input[index + 1..];
            return Ok(value);
        }
    }
    Err(VarintError::Truncated)
}

/// Takes a signed 32-bit varint off the front of `input`.
///
/// # Errors
/// See [`VarintError`]; `input` is then as it was.
#[inline]
pub fn take_varint(input: &mut &[u8]) -> Result<i32, VarintError> {
    take_unsigned32(input).map(unzigzag32)
}

/// Takes a signed 64-bit varint off the front of `input`.
///
/// # Errors
/// See [`VarintError`]; `input` is then as it was.
#[inline]
pub fn take_varlong(input: &mut &[u8]) -> Result<i64, VarintError> {
    take_unsigned64(input).map(unzigzag64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_encodings() {
        for (value, bytes) in [
            (0, vec![0]),
            (-1, vec![1]),
            (1, vec![2]),
            (63, vec![126]),
            (-64, vec![127]),
            (64, vec![0x80, 1]),
            (300, vec![0xd8, 4]),
            (i32::MAX, vec![0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let mut output = Vec::new();
            put_varint(&mut output, value);
            assert_eq!(output, bytes, "{value}");
            assert_eq!(varint_bytes(value), bytes.len());
        }
    }

    #[test]
    fn too_long_and_cut_short_are_told_apart() {
        assert_eq!(take_varint(&mut &[0xff; 5][..]), Err(VarintError::TooLong));
        assert_eq!(
            take_varint(&mut &[0xff; 4][..]),
            Err(VarintError::Truncated)
        );
        assert_eq!(take_varint(&mut &[][..]), Err(VarintError::Truncated));
        assert_eq!(
            take_varlong(&mut &[0xff; 10][..]),
            Err(VarintError::TooLong)
        );
        assert_eq!(
            take_varlong(&mut &[0xff; 9][..]),
            Err(VarintError::Truncated)
        );
    }

    proptest! {
        #[test]
        fn signed_32_round_trip(value: i32) {
            let mut output = Vec::new();
            put_varint(&mut output, value);
            prop_assert_eq!(output.len(), varint_bytes(value));
            let mut input = &output[..];
            prop_assert_eq!(take_varint(&mut input), Ok(value));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn signed_64_round_trip(value: i64) {
            let mut output = Vec::new();
            put_varlong(&mut output, value);
            prop_assert_eq!(output.len(), varlong_bytes(value));
            let mut input = &output[..];
            prop_assert_eq!(take_varlong(&mut input), Ok(value));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = take_varint(&mut &bytes[..]);
            let _ = take_varlong(&mut &bytes[..]);
        }
    }
}
