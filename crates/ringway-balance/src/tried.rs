//! The backends one connection has already tried. A fixed array: connections must not allocate.

use crate::pool::BackendIndex;

/// A set of at most [`Tried::CAPACITY`] backends.
///
/// Indices are those of one pool, in which a backend keeps its index for as long as it is there.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    backends: [BackendIndex; Tried::CAPACITY],
    count: u8,
}

impl Tried {
    /// The most attempts one connection may make; configuration must not allow more.
    pub const CAPACITY: usize = 16;

    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a backend; one that is already there changes nothing.
    ///
    /// # Panics
    /// When the set holds [`Tried::CAPACITY`] others: the bound on attempts was not kept.
    pub fn insert(&mut self, backend: BackendIndex) {
        if self.contains(backend) {
            return;
        }
        let count = usize::from(self.count);
        assert!(
            count < Self::CAPACITY,
            "invariant: a connection makes at most 16 attempts"
        );
        self.backends[count] = backend;
        self.count += 1;
    }

    /// Whether the backend is in the set.
    pub fn contains(&self, backend: BackendIndex) -> bool {
        self.backends[..self.len()].contains(&backend)
    }

    /// How many backends are in the set.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether nothing has been tried yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether no further backend fits, so that no further attempt may be made.
    pub fn is_exhausted(&self) -> bool {
        self.len() == Self::CAPACITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_each_backend_once_up_to_its_capacity() {
        let mut tried = Tried::new();
        assert!(tried.is_empty() && !tried.contains(BackendIndex::new(0)));
        for number in 0..16 {
            assert!(!tried.is_exhausted());
            tried.insert(BackendIndex::new(number));
            tried.insert(BackendIndex::new(number));
            assert_eq!(tried.len(), usize::from(number) + 1);
        }
        assert!(tried.is_exhausted());
        assert!(tried.contains(BackendIndex::new(15)) && !tried.contains(BackendIndex::new(16)));
    }
}
