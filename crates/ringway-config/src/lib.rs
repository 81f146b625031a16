//! YAML to a checked model, with every error located.
//!
//! A text becomes a tree that knows its places (`tree`). The tree becomes typed values by the lists
//! of keys (`keys`, declared by `grammar`, read by `walk`), and these become the [`Config`] by the
//! rules between keys (`lower`). Every step goes on after an error, so that one run shows all of
//! them. What this version has no code for is refused by name (`unsupported`); nothing is accepted
//! and ignored.
//!
//! This crate binds nothing, resolves nothing and reads no file but the one it is given.
#![forbid(unsafe_code)]

mod address;
mod amounts;
mod check_values;
mod compound;
mod difference;
mod grammar;
mod keys;
pub mod limits;
mod listener_rules;
mod load;
mod lower;
mod model;
mod pool_rules;
mod problem;
mod proxy;
mod routes;
mod scalar;
mod schema;
mod suggest;
mod summary;
mod tree;
mod unsupported;
mod values;
mod walk;
mod workers;

#[cfg(test)]
mod tests;

pub use address::{AddressError, AdminBind, BackendAddress, BindAddress};
pub use difference::{Change, What, difference};
pub use load::{LoadError, load, load_settled, parse};
pub use model::{
    Access, AccessLog, Backend, CheckKind, Config, ConnectSource, HealthCheck, Keepalive, Listener,
    ListenerLimits, ListenerTimeouts, Log, LogFormat, LogLevel, Over, Pool, ProxyProtocol,
    ProxyProtocolMode, Route, Shutdown, TcpOptions, WhenBackendDown, Workers,
};
pub use problem::{Errors, Problem};
pub use proxy::{Proxy, ProxyError};
pub use routes::NamePattern;
pub use schema::schema;
pub use suggest::nearest;
pub use summary::summary;
