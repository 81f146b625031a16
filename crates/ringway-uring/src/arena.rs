//! Anonymous memory from mmap(2), page-aligned and unmapped on drop.
//!
//! Not an allocator: one mapping, one owner, one size. Pages are touched lazily, so address space
//! is reserved for the most a ring may need while memory is used only for what it has needed.

use std::io;
use std::ptr::NonNull;

/// A private anonymous mapping, zeroed.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    keep: bool,
}

impl Mapping {
    /// `len` bytes, more than 0.
    pub(crate) fn new(len: usize) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing
        // memory.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base =
            NonNull::new(base.cast()).expect("invariant: mmap without MAP_FIXED is not null");
        Ok(Mapping {
            base,
            len,
            keep: false,
        })
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Never unmap: for memory the kernel may still touch.
    pub(crate) fn leak(&mut self) {
        self.keep = true;
    }

    /// The bytes at `offset..offset + len`.
    ///
    /// # Safety
    /// Neither the kernel nor a `&mut` may write to the range while the slice lives.
    pub(crate) unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        let start = self.at(offset, len);
        // SAFETY: `at` checked that the range lies in the mapping, which lives as long as `self`
        // and is initialised (anonymous pages read as zero); the caller promises that nobody writes
        // meanwhile.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// The bytes at `offset..offset + len`, writable.
    ///
    /// # Safety
    /// The kernel may neither read nor write the range while the slice lives.
    pub(crate) unsafe fn bytes_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        let start = self.at(offset, len);
        // SAFETY: as in `bytes`; `&mut self` excludes every other slice of this mapping.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Gives the memory of `offset..offset + len` back; the range reads as zero then.
    pub(crate) fn release(&mut self, offset: usize, len: usize) {
        let start = self.at(offset, len).cast();
        // SAFETY: `at` checked that the range lies in the mapping, which is private, anonymous and
        // this value's own; `&mut self` excludes every slice of it, and its bytes stay valid ones.
        // It fails on a range that is not made of whole pages: then the memory is kept.
        unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) };
    }

    /// The address of `offset`, with `len` bytes behind it.
    pub(crate) fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset <= self.len && len <= self.len - offset,
            "range outside the mapping"
        );
        // SAFETY: `offset` is inside the mapping or one past its end (checked above).
        unsafe { self.base.as_ptr().add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // SAFETY: base and len are those of the mapping made in `new`; the owner dropped every
        // slice (they borrow it), and made sure that the kernel no longer uses it, or called
        // `leak`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
