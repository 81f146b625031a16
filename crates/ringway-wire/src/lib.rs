//! Pure: the wire formats a balancer reads before it relays.
#![forbid(unsafe_code)]
