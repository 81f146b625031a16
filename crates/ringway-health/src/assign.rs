//! Which keeper probes a backend: rendezvous hashing over the workers.
//!
//! It holds no table and needs no agreement: whoever knows the backend and the numbers of the workers gets the
//! same answer, in this process and in the next. Invariant: with one worker more, a backend either keeps its
//! owner or goes to the new one, which takes about its share; with one less, only what was its moves.

/// The worker, of these, whose keeper probes this backend. None where there is no worker.
pub fn owner(backend_key: u64, workers: impl IntoIterator<Item = u16>) -> Option<u16> {
    let score = |worker: &u16| mix(backend_key ^ mix(u64::from(*worker) + 1));
    workers.into_iter().max_by_key(score)
}

/// A key for a backend known by name, such as `pool/address` (FNV-1a, 64 bits). The same name gives the same
/// key in every process and version.
pub fn key_of(name: &str) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    name.bytes().fold(OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}

/// The finalizer of SplitMix64: every bit of the input moves about half of the bits of the output, so
/// neighbouring keys and worker numbers get unrelated scores.
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_are_even() {
        for workers in [2u16, 3, 8, 64] {
            let mut counts = vec![0u32; usize::from(workers)];
            for key in 0..10_000u64 {
                counts[usize::from(owner(key, 0..workers).unwrap())] += 1;
            }
            let mean = 10_000 / u32::from(workers);
            assert!(
                counts.iter().all(|count| *count > mean / 2),
                "{workers}: {counts:?}"
            );
            assert!(
                counts.iter().all(|count| *count < mean * 2),
                "{workers}: {counts:?}"
            );
        }
    }

    #[test]
    fn one_more_worker_moves_its_share_and_nothing_else() {
        for workers in [1u16, 2, 7, 15] {
            let mut moved = 0;
            for backend in 0..10_000 {
                let key = key_of(&format!("pool/10.0.{}.{}:80", backend / 256, backend % 256));
                let [before, after] = [workers, workers + 1].map(|n| owner(key, 0..n).unwrap());
                if before != after {
                    assert_eq!(
                        after, workers,
                        "only the new worker may take a backend over"
                    );
                    moved += 1;
                }
            }
            let share = 10_000 / (i32::from(workers) + 1);
            assert!(
                (moved - share).abs() < share / 5 + 50,
                "{workers}: {moved} for {share}"
            );
        }
    }

    #[test]
    fn without_a_worker_nobody_probes() {
        assert_eq!(owner(1, []), None);
    }

    /// Two processes of different versions must agree, so these never change.
    #[test]
    fn answers_are_fixed_for_ever() {
        assert_eq!(key_of(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(
            key_of("foobar"),
            0x8594_4171_f739_67e8,
            "the test vector of FNV-1a"
        );
        let owners: Vec<u16> = (0..16).map(|key| owner(key, 0..4).unwrap()).collect();
        assert_eq!(owners, FIXED);
    }

    const FIXED: [u16; 16] = [3, 3, 1, 0, 2, 1, 3, 1, 2, 0, 1, 2, 3, 2, 1, 2];

    proptest! {
        #[test]
        fn is_one_of_the_workers(key in any::<u64>(), workers in 1u16..300) {
            prop_assert!(owner(key, 0..workers).unwrap() < workers);
        }

        #[test]
        fn only_what_was_a_workers_moves_when_it_leaves(key in any::<u64>(), workers in 2u16..64, gone in 0u16..64) {
            let left = || (0..workers).filter(move |worker| *worker != gone);
            let before = owner(key, 0..workers).unwrap();
            let after = owner(key, left()).unwrap();
            prop_assert!(after == before || before == gone);
            prop_assert!(after != gone);
        }
    }
}
