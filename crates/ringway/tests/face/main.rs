//! What people look at: the dashboard in a real browser. Not what it costs the traffic, and not the
//! answers it is drawn from; `ringway-control` has those.

#![allow(clippy::unwrap_used)]

mod browser;
mod scene;

mod dashboard;
