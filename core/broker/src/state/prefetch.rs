//! Has the processor fetch what will be looked at soon.

/// Bytes that the processor fetches at once.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

/// Begins to fetch an object into the processor's caches and does not wait for that: to read it would hold up whatever
/// comes behind, a few objects later. Elsewhere than on x86-64 it does nothing, as there is no stable way to ask for it.
pub(crate) fn prefetch<T>(object: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let begin = std::ptr::from_ref(object).cast::<i8>();
        let lines = (0..size_of::<T>()).step_by(LINE_BYTES);
        // It may begin in the middle of a line and end in that of another.
        for at in lines.chain(size_of::<T>().checked_sub(1)) {
            #[allow(unsafe_code, reason = "the instruction has no safe form")]
            // SAFETY: every x86-64 has it, it changes nothing that a program can see, and no address makes it fail.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(begin.wrapping_add(at));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = object;
}
