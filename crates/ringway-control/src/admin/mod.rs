//! The admin endpoint: what the instance tells and what it takes, over HTTP/1.1.
//!
//! Bound at start, served by the control thread. Invariant: a request can cost this thread time and
//! a bounded number of descriptors and bytes; it never reaches a worker but as a message that a
//! human or a scraper could send by hand.
//!
//! Reading order: `routes.rs` (what there is), `guard.rs` and `token.rs` (who may change things), `bounded.rs`
//! (how much a connection may cost).

mod bounded;
mod guard;
mod page;
mod routes;
mod token;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use ringway_config::AdminBind;
use tracing::warn;

use crate::error::StartError;
use crate::instance::Instance;
use crate::unix_path::{self, SocketFile};

pub(crate) use bounded::CONNECTIONS_MAX;
use guard::{Guard, Reach};
use token::TokenFile;

/// Connections that wait until one of [`CONNECTIONS_MAX`] has made room.
const BACKLOG: i32 = 64;

/// The bound socket of the admin endpoint.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    address: String,
    /// Taken by the server.
    socket: Option<Socket>,
    /// What changes need, if anything.
    token: Option<Arc<TokenFile>>,
    /// Removed at the end.
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(OwnedFd),
}

impl AdminSocket {
    pub(crate) fn bind(
        bind: &AdminBind,
        token_file: Option<&Path>,
    ) -> Result<AdminSocket, StartError> {
        let token = token_file.map(|path| {
            TokenFile::open(path.to_owned()).map_err(|source| StartError::AdminToken {
                path: path.to_owned(),
                source,
            })
        });
        let bound = match bind {
            AdminBind::Tcp(address) => TcpListener::bind(address).and_then(|socket| {
                socket.set_nonblocking(true)?;
                let address = socket.local_addr()?.to_string();
                Ok((address, Socket::Tcp(socket), None))
            }),
            AdminBind::Unix(path) => unix_path::listen_private(path, BACKLOG)
                .map(|(socket, file)| (bind.to_string(), Socket::Unix(socket), Some(file))),
        };
        let (address, socket, file) = bound.map_err(|source| StartError::Admin {
            address: bind.to_string(),
            source,
        })?;
        Ok(AdminSocket {
            address,
            socket: Some(socket),
            token: token.transpose()?.map(Arc::new),
            _file: file,
        })
    }

    /// As bound.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Starts to answer, inside the runtime and until it ends.
    pub(crate) fn serve(&mut self, instance: Arc<Instance>) {
        let token = self.token.take();
        let guard = move |reach| Guard { reach, token };
        let served = match self.socket.take() {
            None => return,
            Some(Socket::Tcp(socket)) => tokio::net::TcpListener::from_std(socket).map(|socket| {
                let app = routes::router(instance, guard(Reach::Browsers));
                tokio::spawn(async move { bounded::serve(socket, app).await });
            }),
            Some(Socket::Unix(socket)) => {
                tokio::net::UnixListener::from_std(socket.into()).map(|socket| {
                    let app = routes::router(instance, guard(Reach::FileOwner));
                    tokio::spawn(async move { bounded::serve(socket, app).await });
                })
            }
        };
        if let Err(error) = served {
            // Descriptors were set aside for this; traffic matters more than the endpoint.
            warn!(%error, "the admin endpoint cannot be served");
        }
    }
}
