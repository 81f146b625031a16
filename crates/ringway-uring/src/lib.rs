//! The ring, typed operations, buffers, pipes and sockets: the only crate with unsafe code.
