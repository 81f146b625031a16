//! A proxy on monoio's io_uring runtime with its own `zero_copy`: what one writes first when one
//! wants io_uring and splice. Invariant: nothing is tuned, neither ring flags nor pipe sizes.

use std::io;

use monoio::io::{AsyncWriteRent, Splitable, zero_copy};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

use super::Relay;

const RING_ENTRIES: u32 = 4096;

pub(super) fn serve(relays: &[Relay]) -> io::Result<()> {
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(RING_ENTRIES)
        .build()?;
    let relays = relays.to_vec();
    runtime.block_on(async move {
        let mut tasks = Vec::new();
        for relay in relays {
            let listener = TcpListener::bind(relay.listen)?;
            tasks.push(monoio::spawn(accept(listener, relay)));
        }
        for task in tasks {
            task.await?;
        }
        Ok(())
    })
}

async fn accept(listener: TcpListener, relay: Relay) -> io::Result<()> {
    for number in 0.. {
        let (front, _) = listener.accept().await?;
        let backend = relay.backend(number);
        // How a connection ends is seen by its two ends.
        monoio::spawn(async move {
            let _ = pass(front, backend).await;
        });
    }
    Ok(())
}

async fn pass(front: TcpStream, backend: std::net::SocketAddr) -> io::Result<()> {
    let back = TcpStream::connect(backend).await?;
    front.set_nodelay(true)?;
    back.set_nodelay(true)?;
    let (mut front_reads, mut front_writes) = front.into_split();
    let (mut back_reads, mut back_writes) = back.into_split();
    let up = async {
        let result = zero_copy(&mut front_reads, &mut back_writes).await;
        let _ = back_writes.shutdown().await;
        result
    };
    let down = async {
        let result = zero_copy(&mut back_reads, &mut front_writes).await;
        let _ = front_writes.shutdown().await;
        result
    };
    let (up, down) = monoio::join!(up, down);
    up.and(down).map(|_| ())
}
