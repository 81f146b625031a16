//! Who owns each buffer, window and memory, with the kernel played by the test.

use super::*;

/// Plays the kernel: takes the oldest visible entry.
fn consume(buffers: &mut Buffers, head: &mut u16) -> Option<BufferId> {
    if *head == buffers.tail_visible {
        return None;
    }
    let index = usize::from(*head & buffers.mask);
    let entry: *const Entry = buffers
        .ring
        .at(index * size_of::<Entry>(), size_of::<Entry>())
        .cast();
    *head = head.wrapping_add(1);
    // SAFETY: an entry before the visible tail is initialised.
    let id = unsafe { (*entry).id };
    Some(buffers.filled(id))
}

#[test]
fn a_window_is_published_and_the_rest_is_free() {
    let mut buffers = Buffers::new(64, 4, 16, 16).unwrap();
    assert_eq!(
        (buffers.published(), buffers.free(), buffers.held()),
        (4, 12, 0)
    );
    let own = buffers.take().unwrap();
    buffers.bytes_mut(own)[..2].copy_from_slice(b"hi");
    assert_eq!(buffers.bytes(own, 0, 2), b"hi");
    assert_eq!((buffers.free(), buffers.held()), (11, 1));
    buffers.recycle(own);
    // The kernel has its window already: the buffer goes back on the stack, to be used next.
    assert_eq!(
        (buffers.published(), buffers.free(), buffers.held()),
        (4, 12, 0)
    );
    assert_eq!(buffers.take(), Some(own));
}

#[test]
fn staged_buffers_are_invisible_until_published() {
    let mut buffers = Buffers::new(64, 2, 4, 4).unwrap();
    let mut head = 0;
    assert_eq!(consume(&mut buffers, &mut head), None);
    buffers.publish();
    let first = consume(&mut buffers, &mut head).unwrap();
    assert!(consume(&mut buffers, &mut head).is_some());
    buffers.recycle(first);
    assert_eq!(consume(&mut buffers, &mut head), None);
    buffers.publish();
    assert_eq!(consume(&mut buffers, &mut head), Some(first));
}

#[test]
fn the_window_doubles_once_per_submit_and_leaves_a_reserve() {
    let mut buffers = Buffers::new(64, 2, 16, 16).unwrap();
    buffers.publish();
    let windows = [4, 8, 14, 14];
    for window in windows {
        buffers.grow();
        buffers.grow();
        assert_eq!(buffers.published(), window);
        buffers.publish();
    }
    assert_eq!(buffers.free(), 2);
}

#[test]
fn the_ring_wraps_for_ever_without_losing_a_buffer() {
    let mut buffers = Buffers::new(16, 3, 5, 5).unwrap();
    let mut head = 0;
    for _ in 0..200_000 {
        buffers.publish();
        let buffer = consume(&mut buffers, &mut head).unwrap();
        buffers.recycle(buffer);
    }
    assert_eq!(
        (buffers.published(), buffers.free(), buffers.held()),
        (3, 2, 0)
    );
}

#[test]
fn bytes_are_gathered_behind_what_is_being_sent() {
    let mut buffers = Buffers::new(8, 1, 4, 4).unwrap();
    let (first, second) = (buffers.take().unwrap(), buffers.take().unwrap());
    buffers.bytes_mut(first).copy_from_slice(b"abc.....");
    buffers.bytes_mut(second).copy_from_slice(b"defghijk");
    buffers.begin_send(first, 1, 2);
    buffers.gather(first, 3, second, 5, 3);
    assert_eq!(buffers.bytes(first, 0, 8), b"abcdefgh");
    assert_eq!(buffers.bytes(second, 0, 3), b"ijk");
    buffers.end_send(first.0);
    buffers.gather(first, 0, second, 3, 0);
    assert_eq!(buffers.bytes(first, 0, 8), b"ijkdefgh");
}

#[test]
fn more_can_be_held_than_is_ever_lent() {
    let mut buffers = Buffers::new(64, 2, 4, 64).unwrap();
    assert_eq!(buffers.ring().1, 4);
    let mut head = 0;
    let held: Vec<BufferId> = (0..56)
        .map(|_| {
            buffers.publish();
            assert!(buffers.published() <= 4);
            consume(&mut buffers, &mut head).unwrap()
        })
        .collect();
    assert_eq!(buffers.held(), 56);
    held.into_iter().for_each(|buffer| buffers.recycle(buffer));
    assert_eq!(buffers.free() + buffers.published(), 64);
}

#[test]
fn memory_of_a_peak_is_given_back_bit_by_bit_and_what_is_in_use_is_left_alone() {
    const SIZE: u32 = 4096;
    let mut buffers = Buffers::new(SIZE, 2, 64, 1024).unwrap();
    buffers.grow();
    let mut held: Vec<BufferId> = (0..1000).map(|_| buffers.take().unwrap()).collect();
    for buffer in &held {
        buffers.bytes_mut(*buffer).fill(7);
    }
    let kept = held.split_off(990);
    held.into_iter().for_each(|buffer| buffers.recycle(buffer));
    assert!(buffers.is_swollen());
    // What was held since the last look may be needed again.
    assert_eq!(buffers.relax(100, true), 0);
    while buffers.resident_unheld > RESIDENT_KEPT_CALM {
        let before = buffers.resident_unheld;
        let released = buffers.relax(100, true);
        assert!(released <= 100 && released == before - buffers.resident_unheld);
    }
    assert_eq!(buffers.resident_unheld, RESIDENT_KEPT_CALM);
    for buffer in kept {
        assert!(buffers.bytes(buffer, 0, SIZE).iter().all(|byte| *byte == 7));
        buffers.recycle(buffer);
    }
    while buffers.is_swollen() {
        assert!(buffers.relax(100, true) <= 100);
    }
    let mut all = std::iter::from_fn(|| buffers.take()).collect::<Vec<_>>();
    let is_fresh = |id: &BufferId| buffers.bytes(*id, 0, SIZE).iter().all(|byte| *byte == 0);
    all.retain(is_fresh);
    assert!(all.len() >= 700, "{}", all.len());
}

#[test]
fn memory_lent_to_the_kernel_is_given_back_when_it_is_known_to_hold_nothing() {
    const SIZE: u32 = 4096;
    let mut buffers = Buffers::new(SIZE, 64, 64, 256).unwrap();
    let mut head = 0;
    buffers.publish();
    for _ in 0..200 {
        let buffer = consume(&mut buffers, &mut head).unwrap();
        buffers.bytes_mut(buffer).fill(7);
        buffers.recycle(buffer);
        buffers.publish();
    }
    let lent: u32 = buffers.resident_unheld;
    assert_eq!(lent, 64);
    // In use a moment ago; then calm, but a completion may wait that speaks of them.
    assert_eq!(buffers.relax(256, true), 0);
    assert_eq!(buffers.relax(256, false), 0);
    assert!(buffers.is_swollen());
    assert_eq!(buffers.relax(40, true), 40);
    assert_eq!(buffers.relax(40, true), 64 - 40 - RESIDENT_KEPT_CALM);
    assert!(!buffers.is_swollen());
    let fresh = (0..64).filter(|_| {
        let buffer = consume(&mut buffers, &mut head).unwrap();
        buffers.bytes(buffer, 0, SIZE).iter().all(|byte| *byte == 0)
    });
    assert_eq!(fresh.count() as u32, 64 - RESIDENT_KEPT_CALM);
}

#[test]
fn memory_in_use_at_each_look_is_kept() {
    let mut buffers = Buffers::new(4096, 64, 64, 256).unwrap();
    let mut head = 0;
    for _ in 0..20 {
        buffers.publish();
        for _ in 0..64 {
            let buffer = consume(&mut buffers, &mut head).unwrap();
            buffers.recycle(buffer);
            buffers.publish();
        }
        assert_eq!(buffers.relax(256, true), 0);
    }
    assert_eq!(buffers.resident_unheld, 64);
}

#[test]
fn fewer_buffers_are_withheld_as_they_come_back_and_more_are_there_at_once() {
    let mut buffers = Buffers::new(64, 4, 16, 64).unwrap();
    buffers.publish();
    let held: Vec<BufferId> = std::iter::from_fn(|| buffers.take()).collect();
    assert_eq!((held.len(), buffers.free()), (60, 0));
    buffers.limit(16);
    for (given_back, buffer) in held.into_iter().enumerate() {
        buffers.recycle(buffer);
        let all = buffers.held() + buffers.free() + buffers.published();
        assert_eq!(all, (63 - given_back as u32).max(16));
    }
    assert_eq!((buffers.free(), buffers.published()), (12, 4));
    // No more are lent than leave some.
    (0..4).for_each(|_| {
        buffers.grow();
        buffers.publish();
    });
    assert_eq!((buffers.free(), buffers.published()), (2, 14));
    buffers.limit(64);
    assert_eq!((buffers.free(), buffers.published()), (50, 14));
    let mut all: Vec<usize> = std::iter::from_fn(|| buffers.take())
        .map(BufferId::index)
        .collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 50);
    // Nothing that the ring does not have.
    buffers.limit(u16::MAX);
    assert_eq!(buffers.free(), 0);
}

#[test]
fn misuse_panics_with_the_reason() {
    let misuse = |f: fn(&mut Buffers, BufferId)| {
        let result = std::panic::catch_unwind(|| {
            let mut buffers = Buffers::new(64, 1, 4, 4).unwrap();
            let held = buffers.take().unwrap();
            f(&mut buffers, held);
        });
        *result.unwrap_err().downcast::<String>().unwrap()
    };
    let twice = misuse(|buffers, held| {
        buffers.recycle(held);
        buffers.recycle(held);
    });
    assert!(twice.contains("recycled while Free"), "{twice}");
    let sending = misuse(|buffers, held| {
        buffers.begin_send(held, 0, 1);
        buffers.bytes_mut(held);
    });
    assert!(sending.contains("written while Sending"), "{sending}");
    let kernel = misuse(|buffers, _| {
        buffers.bytes(BufferId(0), 0, 1);
    });
    assert!(kernel.contains("read while not held"), "{kernel}");
    let sent = misuse(|buffers, held| {
        let other = buffers.take().unwrap();
        buffers.begin_send(held, 2, 3);
        buffers.gather(held, 4, other, 1, 0);
    });
    assert!(sent.contains("into what is being sent"), "{sent}");
    let range = misuse(|buffers, held| {
        buffers.bytes(held, 60, 5);
    });
    assert!(range.contains("outside the buffer"), "{range}");
}
