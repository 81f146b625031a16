//! Memory that was freed and that the allocator keeps for who asks next. Not what is in use. Invariant: nobody has to
//! give anything back; it is for processes that have just done a piece of work that they seldom do.

/// Gives the pages of it back to the kernel, of all threads, each of which waits meanwhile if it allocates:
/// malloc_trim(3). Does nothing where the C library has no such thing.
pub fn give_back_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::hint::black_box;

    use super::*;

    fn resident_pages() -> u64 {
        let numbers = fs::read_to_string("/proc/self/statm").unwrap();
        numbers.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn what_was_freed_between_what_is_kept_is_given_back() {
        let size = 16 << 10;
        let all: Vec<Vec<u8>> = (0..2048).map(|_| black_box(vec![1; size])).collect();
        // The last one keeps the heap from shrinking by itself.
        let kept = all.into_iter().next_back();
        let before = resident_pages();
        give_back_freed();
        let after = resident_pages();
        let is_able = cfg!(target_env = "gnu");
        assert!(
            !is_able || after + 4096 < before,
            "{before} pages, {after} after"
        );
        assert_eq!(kept.map(|kept| kept.len()), Some(size));
    }
}
