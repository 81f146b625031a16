//! The flow, input by input: each table says what comes in and exactly what goes out, in order.

mod connecting;
mod copying;
mod deadlines;
mod ending;
mod looking;
mod promotion;
mod resetting;
mod rig;
mod splicing;
mod watching;
