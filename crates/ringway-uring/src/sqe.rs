//! The one submission entry the `io-uring` crate cannot build: a multishot receive with a limit on
//! its total.
//!
//! Nothing else is patched. Since Linux 6.17 the kernel reads `optlen` of a multishot receive as
//! the number of bytes after which it ends by itself; older kernels answer EINVAL to a value other
//! than 0.

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

/// Offset of `splice_fd_in`/`file_index`/`optlen` in `struct io_uring_sqe`: the u32 after
/// `buf_index` and `personality` (include/uapi/linux/io_uring.h).
const OPTLEN_OFFSET: usize = 44;
const _: () = assert!(
    size_of::<Entry>() == 64,
    "the entry is the kernel's 64-byte SQE"
);

/// Receives into buffers of `group` and ends with the completion that brings the total to `limit`
/// (more than 0) or, by less than one buffer, beyond: the kernel does not shorten the last one.
pub(crate) fn receive_until(fd: types::Fd, group: u16, limit: u32) -> Entry {
    let mut entry = opcode::RecvMulti::new(fd, group).build();
    let base: *mut u8 = (&raw mut entry).cast();
    // SAFETY: the offset lies in the entry (asserted to be 64 bytes).
    let optlen = unsafe { base.add(OPTLEN_OFFSET) };
    // SAFETY: `Entry` is `repr(C)` around the 64-byte `io_uring_sqe`, 8-byte aligned, so offset 44
    // is its aligned u32 field `optlen`; every bit pattern is valid there, and the entry is
    // exclusively borrowed.
    unsafe { optlen.cast::<u32>().write(limit) };
    entry
}
