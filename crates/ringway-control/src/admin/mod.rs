//! The admin endpoint: what the instance tells and what it takes, over HTTP/1.1.
//!
//! Bound at start, served by the control thread. Invariant: a request can cost this thread time and
//! a bounded number of descriptors and bytes; it never reaches a worker but as a message that a
//! human or a scraper could send by hand.
//!
//! Reading order: `routes.rs` (what there is), `guard.rs` and `token.rs` (who may change things), `bounded.rs`
//! (how much a connection may cost).

mod backend;
mod bounded;
mod explain;
mod guard;
mod page;
mod routes;
mod token;

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use ringway_config::AdminBind;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::error::StartError;
use crate::inherited::{Heirloom, Heirlooms};
use crate::instance::Instance;
use crate::unix_path::{self, SocketFile};
use crate::upgrade::message::{Entry, Role};

pub(crate) use bounded::CONNECTIONS_MAX;
use guard::{Guard, Reach};
use token::TokenFile;

/// Connections that wait until one of [`CONNECTIONS_MAX`] has made room.
const BACKLOG: i32 = 64;
/// Between two looks at whether somebody waits for an answer.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The bound socket of the admin endpoint.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    address: String,
    configured: String,
    /// Taken by the server.
    socket: Option<Socket>,
    /// What changes need, if anything.
    token: Option<Arc<TokenFile>>,
    /// A copy, for a process that comes after this one.
    copy: OwnedFd,
    /// Removed at the end.
    file: Option<SocketFile>,
    /// Who is connected.
    seats: bounded::Seats,
    server: Option<JoinHandle<()>>,
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
        heirlooms: &mut Heirlooms,
    ) -> Result<AdminSocket, StartError> {
        let token = token_file.map(|path| {
            TokenFile::open(path.to_owned()).map_err(|source| StartError::AdminToken {
                path: path.to_owned(),
                source,
            })
        });
        let token = token.transpose()?.map(Arc::new);
        let refused = |source| StartError::Admin {
            address: bind.to_string(),
            source,
        };
        let inherited = heirlooms.take(Role::Admin, "", &bind.to_string());
        let socket = match inherited.into_iter().next() {
            Some(one) => AdminSocket::adopt(bind, one),
            None => AdminSocket::fresh(bind),
        };
        let socket = socket.map_err(refused)?;
        Ok(AdminSocket { token, ..socket })
    }

    fn fresh(bind: &AdminBind) -> std::io::Result<AdminSocket> {
        let bound = match bind {
            AdminBind::Tcp(address) => TcpListener::bind(address).and_then(|socket| {
                socket.set_nonblocking(true)?;
                let address = socket.local_addr()?.to_string();
                Ok((address, Socket::Tcp(socket), None))
            }),
            AdminBind::Unix(path) => unix_path::listen_private(path, BACKLOG)
                .map(|(socket, file)| (bind.to_string(), Socket::Unix(socket), Some(file))),
        };
        let (address, socket, file) = bound?;
        AdminSocket::of(bind, address, socket, file)
    }

    fn adopt(bind: &AdminBind, inherited: Heirloom) -> std::io::Result<AdminSocket> {
        let Heirloom { fd, entry, .. } = inherited;
        let (socket, file) = match bind {
            AdminBind::Tcp(_) => (Socket::Tcp(fd.into()), None),
            AdminBind::Unix(path) => {
                let file = entry.file.map(|file| SocketFile::adopted(path, file));
                (Socket::Unix(fd), file)
            }
        };
        AdminSocket::of(bind, entry.bound, socket, file)
    }

    fn of(
        bind: &AdminBind,
        address: String,
        socket: Socket,
        file: Option<SocketFile>,
    ) -> std::io::Result<AdminSocket> {
        let fd = match &socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        };
        Ok(AdminSocket {
            copy: fd.try_clone_to_owned()?,
            address,
            configured: bind.to_string(),
            socket: Some(socket),
            token: None,
            file,
            seats: bounded::Seats::default(),
            server: None,
        })
    }

    /// What a process that comes after this one gets.
    pub(crate) fn lend(&self) -> std::io::Result<(OwnedFd, Entry)> {
        let entry = Entry {
            role: Role::Admin,
            name: String::new(),
            configured: self.configured.clone(),
            bound: self.address.clone(),
            worker: 0,
            file: self.file.as_ref().map(SocketFile::identity),
            is_managers: false,
            options: None,
        };
        Ok((self.copy.try_clone()?, entry))
    }

    /// Leaves the endpoint to somebody else; those who are connected get their answers.
    pub(crate) fn hand_over(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
        if let Some(file) = self.file.take() {
            file.leave();
        }
    }

    /// Until nobody waits for an answer.
    pub(crate) async fn answered(&self) {
        while self.seats.is_anybody_waiting() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
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
                let seats = self.seats.clone();
                let app = routes::router(instance, guard(Reach::Browsers));
                let app = app.layer(Extension(seats.clone()));
                tokio::spawn(async move { bounded::serve(socket, app, seats).await })
            }),
            Some(Socket::Unix(socket)) => {
                tokio::net::UnixListener::from_std(socket.into()).map(|socket| {
                    let seats = self.seats.clone();
                    let app = routes::router(instance, guard(Reach::FileOwner));
                    let app = app.layer(Extension(seats.clone()));
                    tokio::spawn(async move { bounded::serve(socket, app, seats).await })
                })
            }
        };
        match served {
            Ok(server) => self.server = Some(server),
            // Descriptors were set aside for this; traffic matters more than the endpoint.
            Err(error) => warn!(%error, "the admin endpoint cannot be served"),
        }
    }
}
