//! How much the clients of the admin endpoint may cost: connections at a time, and time per
//! request.
//!
//! The time is counted on the bytes and not inside the HTTP library: from the first byte of a
//! request until something is answered, from an answer until the next request, and while the client
//! does not take what is written. So a client that sends a byte a minute, or reads none, is cut off
//! like one that says nothing.
//!
//! Invariant: whoever connects is served although all places are taken: the one that has kept
//! everybody waiting longest, those without a request first, makes room. So no number of clients that
//! are slow or silent keeps `/livez` from answering.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// Connections served at a time.
pub(crate) const CONNECTIONS_MAX: usize = 64;
/// From the first byte of a request until its answer begins, and for each wait of a write.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Between two requests. Longer than a dashboard's pause, shorter than a scraper's: scrapers
/// connect anew.
const IDLE_WITHIN: Duration = Duration::from_secs(10);

/// How long one that was told to leave may take until the next one is told too.
const LEAVE_WITHIN: Duration = Duration::from_millis(50);

/// Serves until the runtime ends.
pub(crate) async fn serve<L: Listener>(listener: L, app: Router, seats: Seats)
where
    L::Addr: fmt::Debug,
{
    let listener = Bounded {
        listener,
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        seats,
    };
    // It handles the errors of accept itself and never returns.
    let app = app.into_make_service_with_connect_info::<Peer>();
    let _ = axum::serve(listener, app).await;
}

/// Who connected, for the log.
#[derive(Clone, Debug)]
pub(super) struct Peer(String);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<L: Listener> Connected<IncomingStream<'_, Bounded<L>>> for Peer
where
    L::Addr: fmt::Debug,
{
    fn connect_info(stream: IncomingStream<'_, Bounded<L>>) -> Peer {
        Peer(format!("{:?}", stream.remote_addr()))
    }
}

struct Bounded<L> {
    listener: L,
    places: Arc<Semaphore>,
    seats: Seats,
}

/// A place for one more, freed if need be.
async fn place(places: &Arc<Semaphore>, seats: &Seats) -> Option<OwnedSemaphorePermit> {
    loop {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Some(place);
        }
        seats.free_one();
        let freed = Arc::clone(places).acquire_owned();
        if let Ok(place) = timeout(LEAVE_WITHIN, freed).await {
            // The semaphore is never closed.
            return place.ok();
        }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = TimedIo<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, address) = self.listener.accept().await;
        let place = place(&self.places, &self.seats).await;
        (TimedIo::new(io, self.seats.take(), place), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that fails with `TimedOut` when the client takes too long, or is to make room.
struct TimedIo<I> {
    io: I,
    seat: Seat,
    timer: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

/// What the timer runs for; those who wait for less leave first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The next request.
    Idle,
    /// The rest of the request, and the beginning of its answer.
    Request,
    /// The client to take what is written.
    Answer,
}

/// Who is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// Requests that may take long.
    patient: usize,
    sitting: Vec<Sitting>,
}

#[derive(Debug)]
struct Sitting {
    number: u64,
    phase: Phase,
    since: Instant,
    is_to_leave: bool,
    waker: Option<Waker>,
}

impl Seats {
    fn take(&self) -> Seat {
        let mut taken = self.lock();
        let number = taken.next;
        taken.next += 1;
        taken.sitting.push(Sitting {
            number,
            phase: Phase::Idle,
            since: Instant::now(),
            is_to_leave: false,
            waker: None,
        });
        let seats = self.clone();
        Seat { seats, number }
    }

    /// A request is being worked on that takes as long as it takes: nobody is sent away for having
    /// waited for an answer while the guard lives.
    pub(crate) fn be_patient(&self) -> Patience {
        self.lock().patient += 1;
        Patience(self.clone())
    }

    fn is_patient(&self) -> bool {
        self.lock().patient > 0
    }

    /// Whether somebody has sent a request, or a part of one, and has not got all of the answer.
    pub(crate) fn is_anybody_waiting(&self) -> bool {
        let taken = self.lock();
        taken.sitting.iter().any(|one| one.phase != Phase::Idle)
    }

    /// Tells the one to leave who has been in the least of phases for longest.
    fn free_one(&self) {
        let mut taken = self.lock();
        let staying = taken.sitting.iter_mut().filter(|one| !one.is_to_leave);
        if let Some(one) = staying.min_by_key(|one| (one.phase, one.since)) {
            one.is_to_leave = true;
            if let Some(waker) = one.waker.take() {
                waker.wake();
            }
        }
    }

    /// Each change is whole, so that a panic while it is locked leaves it usable.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, answers may take long.
#[derive(Debug)]
pub(crate) struct Patience(Seats);

impl Drop for Patience {
    fn drop(&mut self) {
        self.0.lock().patient -= 1;
    }
}

/// A connection's entry among those who are there.
#[derive(Debug)]
struct Seat {
    seats: Seats,
    number: u64,
}

impl Seat {
    fn with<T>(&self, look: impl FnOnce(&mut Sitting) -> T) -> T {
        let mut taken = self.seats.lock();
        let mut sitting = taken.sitting.iter_mut();
        let own = sitting.find(|one| one.number == self.number);
        look(own.expect("invariant: an entry is there until its seat is dropped"))
    }

    fn phase(&self) -> Phase {
        self.with(|own| own.phase)
    }

    fn enter(&self, phase: Phase) {
        self.with(|own| (own.phase, own.since) = (phase, Instant::now()));
    }

    /// Pending until it is to leave.
    fn poll_leave(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.with(|own| {
            if own.is_to_leave {
                return Poll::Ready(());
            }
            own.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.sitting.retain(|one| one.number != self.number);
    }
}

impl<I> TimedIo<I> {
    fn new(io: I, seat: Seat, place: Option<OwnedSemaphorePermit>) -> TimedIo<I> {
        TimedIo {
            io,
            seat,
            timer: Box::pin(sleep_until(Instant::now() + IDLE_WITHIN)),
            _place: place,
        }
    }

    fn enter(&mut self, phase: Phase, within: Duration) {
        self.seat.enter(phase);
        self.timer.as_mut().reset(Instant::now() + within);
    }

    /// Pending until the time is over, then the error.
    fn poll_timeout<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let mut is_over = self.timer.as_mut().poll(cx).is_ready();
        if is_over && self.seat.phase() == Phase::Request && self.seat.seats.is_patient() {
            self.timer.as_mut().reset(Instant::now() + REQUEST_WITHIN);
            is_over = self.timer.as_mut().poll(cx).is_ready();
        }
        if is_over || self.seat.poll_leave(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
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
                if self.seat.phase() != Phase::Answer {
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
                if this.seat.phase() == Phase::Idle {
                    this.enter(Phase::Request, REQUEST_WITHIN);
                }
                if this.seat.phase() == Phase::Request
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
        (TimedIo::new(io, Seats::default().take(), None), client)
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

    #[test]
    fn those_without_a_request_leave_first_and_the_longest_there_before_others() {
        paused(async {
            let seats = Seats::default();
            let mut sitting = Vec::new();
            for phase in [Phase::Answer, Phase::Request, Phase::Idle, Phase::Idle] {
                let seat = seats.take();
                seat.enter(phase);
                sitting.push(seat);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let mut nobody = Context::from_waker(Waker::noop());
            let mut left = Vec::new();
            for _ in 0..sitting.len() {
                seats.free_one();
                let all = 0..sitting.len();
                left.push(
                    all.filter(|at| sitting[*at].poll_leave(&mut nobody).is_ready())
                        .collect::<Vec<_>>(),
                );
            }
            assert_eq!(left, [vec![2], vec![2, 3], vec![1, 2, 3], vec![0, 1, 2, 3]]);
        });
    }

    #[test]
    fn one_that_is_to_leave_does_not_wait_for_its_client() {
        paused(async {
            let seats = Seats::default();
            let (io, _client) = duplex(64);
            let mut server = TimedIo::new(io, seats.take(), None);
            let started = Instant::now();
            let free = async {
                tokio::task::yield_now().await;
                seats.free_one();
            };
            let (read, ()) = tokio::join!(server.read_u8(), free);
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert!(started.elapsed() < IDLE_WITHIN);
        });
    }
}
