//! How much the clients of the admin endpoint may cost: connections at a time, and time per
//! request.
//!
//! The time is counted on the bytes and not inside the HTTP library: from the first byte of a
//! request until something is answered, from an answer until the next request, and while the client
//! does not take what is written. So a client that sends a byte a minute, or reads none, is cut off
//! like one that says nothing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

/// Connections served at a time; more wait in the kernel's queue.
pub(crate) const CONNECTIONS_MAX: usize = 64;
/// From the first byte of a request until its answer begins, and for each wait of a write.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Between two requests. Longer than a dashboard's pause, shorter than a scraper's: scrapers
/// connect anew.
const IDLE_WITHIN: Duration = Duration::from_secs(10);

/// Serves until the runtime ends.
pub(crate) async fn serve<L: Listener>(listener: L, app: Router)
where
    L::Addr: std::fmt::Debug,
{
    let listener = Bounded {
        listener,
        slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    };
    // It handles the errors of accept itself and never returns.
    let _ = axum::serve(listener, app).await;
}

struct Bounded<L> {
    listener: L,
    slots: Arc<Semaphore>,
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = TimedIo<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let (io, address) = self.listener.accept().await;
        let timed = TimedIo {
            io,
            phase: Phase::Idle,
            timer: Box::pin(sleep_until(Instant::now() + IDLE_WITHIN)),
            // The semaphore is never closed.
            _slot: slot.ok(),
        };
        (timed, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that fails with `TimedOut` when the client takes too long.
struct TimedIo<I> {
    io: I,
    phase: Phase,
    timer: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
}

/// What the timer runs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The next request.
    Idle,
    /// The rest of the request, and the beginning of its answer.
    Request,
    /// The client to take what is written.
    Answer,
}

impl<I> TimedIo<I> {
    fn enter(&mut self, phase: Phase, within: Duration) {
        self.phase = phase;
        self.timer.as_mut().reset(Instant::now() + within);
    }

    /// Pending until the time is over, then the error.
    fn poll_timeout<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match self.timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn after_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(result) => {
                self.enter(Phase::Idle, IDLE_WITHIN);
                Poll::Ready(result)
            }
            Poll::Pending => {
                if self.phase != Phase::Answer {
                    self.enter(Phase::Answer, REQUEST_WITHIN);
                }
                self.poll_timeout(cx)
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for TimedIo<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match Pin::new(&mut this.io).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                // Later bytes of a request do not prolong it.
                if this.phase == Phase::Idle {
                    this.enter(Phase::Request, REQUEST_WITHIN);
                }
                if this.phase == Phase::Request
                    && let Poll::Ready(timeout) = this.poll_timeout(cx)
                {
                    return Poll::Ready(timeout);
                }
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_timeout(cx),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for TimedIo<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let result = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.after_write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let result = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.after_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn timed(buffer_size: usize) -> (TimedIo<DuplexStream>, DuplexStream) {
        let (io, client) = duplex(buffer_size);
        let timer = Box::pin(sleep_until(Instant::now() + IDLE_WITHIN));
        (
            TimedIo {
                io,
                phase: Phase::Idle,
                timer,
                _slot: None,
            },
            client,
        )
    }

    /// On a paused clock the runtime skips to the next timer when nothing else can happen.
    fn paused<F: Future>(test: F) -> F::Output {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(test)
    }

    #[test]
    fn silence_ends_a_connection() {
        paused(async {
            let (mut server, _client) = timed(64);
            let error = server.read_u8().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_byte_now_and_then_does_not_prolong_a_request() {
        paused(async {
            let (mut server, mut client) = timed(64);
            let started = Instant::now();
            let drip = async {
                while client.write_u8(b'x').await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            let read = async {
                while server.read_u8().await.is_ok() {}
                drop(server);
                started.elapsed()
            };
            let (took, ()) = tokio::join!(read, drip);
            assert!(took <= REQUEST_WITHIN + Duration::from_secs(1), "{took:?}");
        });
    }

    #[test]
    fn an_answer_that_nobody_reads_ends_the_connection() {
        paused(async {
            let (mut server, _client) = timed(8);
            let error = server.write_all(&[0; 64]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn request_and_answer_in_time_start_the_time_anew() {
        paused(async {
            let (mut server, mut client) = timed(64);
            for _ in 0..5 {
                client.write_u8(b'?').await.unwrap();
                assert_eq!(server.read_u8().await.unwrap(), b'?');
                tokio::time::sleep(REQUEST_WITHIN - Duration::from_secs(1)).await;
                server.write_u8(b'!').await.unwrap();
                assert_eq!(client.read_u8().await.unwrap(), b'!');
            }
        });
    }
}
