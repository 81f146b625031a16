//! The keys of the contract this version has no code for yet. Each is read and checked like every
//! other, then refused by name unless it says what happens anyway. A feature that lands removes its
//! rows. Invariant: a key that is neither here nor in the model does not exist; a test proves it.

/// One key that is not supported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsupported {
    /// The full key, with `*` for a name the user chooses.
    pub(crate) key: &'static str,
    /// The only value that is taken, as YAML; `None` when the key may not be written at all.
    pub(crate) only: Option<&'static str>,
}

const fn row(key: &'static str, only: &'static str) -> Unsupported {
    Unsupported {
        key,
        only: Some(only),
    }
}

/// Every key that is not supported.
pub(crate) static UNSUPPORTED: &[Unsupported] = &[
    row("listeners.*.protocol", "tcp"),
    Unsupported {
        key: "pools.*.discover",
        only: None,
    },
];
