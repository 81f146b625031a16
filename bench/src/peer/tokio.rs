//! A copying proxy on tokio's single-threaded runtime. Invariant: one task per connection, two
//! buffers of 16 KiB in each, as HAProxy and nginx have them.

use std::io;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

use super::Relay;

const BUFFER_BYTES: usize = 16 * 1024;

pub(super) fn serve(relays: &[Relay]) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for relay in relays {
            let listener = TcpListener::bind(relay.listen).await?;
            tasks.push(tokio::spawn(accept(listener, relay.clone())));
        }
        for task in tasks {
            task.await.map_err(io::Error::other)??;
        }
        Ok(())
    })
}

async fn accept(listener: TcpListener, relay: Relay) -> io::Result<()> {
    for number in 0.. {
        let (front, _) = listener.accept().await?;
        let backend = relay.backend(number);
        // How a connection ends is seen by its two ends.
        tokio::spawn(async move {
            let _ = pass(front, backend).await;
        });
    }
    Ok(())
}

async fn pass(mut front: TcpStream, backend: std::net::SocketAddr) -> io::Result<(u64, u64)> {
    let mut back = TcpStream::connect(backend).await?;
    front.set_nodelay(true)?;
    back.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut front, &mut back, BUFFER_BYTES, BUFFER_BYTES).await
}
