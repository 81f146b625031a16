//! The real binary in front of real sockets: what clients, backends, operators and the kernel see of
//! it. Clients and backends are played by the test; nothing of Ringway is linked in.
//!
//! Each test has an instance, ports and a directory of its own. Invariant: an instance that is
//! dropped has given back every connection, descriptor and thread, its counters balance, and it has
//! ended with exit code 0; see [`instance::Ringway`].

#![allow(clippy::unwrap_used)]

mod admin;
mod arrivals;
mod backend;
mod eventually;
mod foreign;
mod header;
mod hello;
mod instance;
mod keyed;
mod peers;
mod places;
mod process;
mod scale;
mod setup;
mod succession;

mod access;
mod access_log;
mod answers;
mod balance;
mod blocked;
mod broken;
mod bulk;
mod busy_poll;
mod catalogue;
mod connecting;
mod crowds;
mod descriptors;
mod ejection;
mod ends;
mod exhaustion;
mod explain;
mod failover;
mod frozen;
mod health;
mod limits;
mod memory;
mod names;
mod neighbours;
mod one_backend;
mod origins;
mod pace;
mod pressure;
mod privilege;
mod proxy_in;
mod proxy_out;
mod rates;
mod refusals;
mod reload;
mod reload_files;
mod reload_hanging;
mod reload_load;
mod reload_reading;
mod reload_upgrade;
mod service_manager;
mod signals;
mod soak;
mod sockets;
mod sources;
mod staff;
mod stop;
mod storms;
mod timeouts;
mod turns;
mod upgrade;
mod upgrade_failures;
mod users;
mod vanished;
