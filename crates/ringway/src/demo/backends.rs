//! The demo's backends: three listeners that answer any HTTP request, and any other line, with their
//! name. Not HTTP servers to put anywhere. Invariant: a client that talks nonsense, or stops
//! talking, costs its own connection and nothing else.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The names of the backends, in the order of their addresses.
pub(super) const NAMES: [char; 3] = ['A', 'B', 'C'];

/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 8 * 1024;
/// Pause after a failed accept: usually no descriptor is free, and one will be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The three, bound and not serving yet.
#[derive(Debug)]
pub(super) struct DemoBackends(Vec<(char, TcpListener)>);

impl DemoBackends {
    /// Binds a free port of 127.0.0.1 for each of [`NAMES`]; inside a runtime.
    pub(super) fn bind() -> io::Result<(DemoBackends, Vec<SocketAddr>)> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for name in NAMES {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            addresses.push(listener.local_addr()?);
            listeners.push((name, TcpListener::from_std(listener)?));
        }
        Ok((DemoBackends(listeners), addresses))
    }

    /// Serves until the runtime ends.
    pub(super) fn serve(self) {
        for (name, listener) in self.0 {
            tokio::spawn(accept(name, listener));
        }
    }
}

async fn accept(name: char, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // How a conversation ends is its own affair.
                tokio::spawn(async move { drop(converse(name, stream).await) });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn converse(name: char, mut stream: TcpStream) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    loop {
        let Some(line) = line(&mut reader).await? else {
            return Ok(());
        };
        let after = match line.ends_with("HTTP/1.1") || line.ends_with("HTTP/1.0") {
            true => {
                let request = Request::read(&line, &mut reader).await?;
                writer.write_all(request.answer(name).as_bytes()).await?;
                request.after
            }
            false => {
                let answer = format!("backend {name} got: {line}\n");
                writer.write_all(answer.as_bytes()).await?;
                After::Keep
            }
        };
        match after {
            After::Keep => {}
            After::Close => return writer.shutdown().await,
        }
    }
}

/// What happens to the connection after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Keep,
    Close,
}

/// As much of an HTTP request as the answer depends on.
#[derive(Debug)]
struct Request {
    with_body: bool,
    after: After,
}

impl Request {
    /// Reads the headers that follow `line`, and throws the body away.
    async fn read(line: &str, from: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Request> {
        let mut after = if line.ends_with("HTTP/1.1") {
            After::Keep
        } else {
            After::Close
        };
        let mut body_bytes = 0;
        while let Some(header) = self::line(from).await?.filter(|header| !header.is_empty()) {
            let (name, value) = header.split_once(':').unwrap_or((&header, ""));
            match (
                name.to_ascii_lowercase().as_str(),
                value.trim().to_ascii_lowercase().as_str(),
            ) {
                ("connection", "close") => after = After::Close,
                ("connection", "keep-alive") => after = After::Keep,
                ("content-length", length) => body_bytes = length.parse().unwrap_or(0),
                // Where a chunked body ends is not looked for: the connection ends instead.
                ("transfer-encoding", _) => after = After::Close,
                _ => {}
            }
        }
        tokio::io::copy(&mut from.take(body_bytes), &mut tokio::io::sink()).await?;
        Ok(Request {
            with_body: !line.starts_with("HEAD "),
            after,
        })
    }

    fn answer(&self, name: char) -> String {
        let body = format!("hello from backend {name}\n");
        let connection = match self.after {
            After::Keep => "keep-alive",
            After::Close => "close",
        };
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: {connection}\r\n\r\n{}",
            body.len(),
            if self.with_body { &body } else { "" },
        )
    }
}

/// The next line without its end; `None` at the end of the stream.
async fn line(from: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    from.take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut bytes)
        .await?;
    match bytes.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())),
        Some(_) if bytes.len() as u64 == LINE_BYTES_MAX => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "an endless line",
        )),
        // A last line without an end, from a client that has closed its side.
        Some(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Shutdown;

    use super::*;

    /// What backend A answers to `said` from a client that then closes its side.
    fn answer(said: &[u8]) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let (backends, addresses) = DemoBackends::bind().expect("three free ports");
            backends.serve();
            let said = said.to_owned();
            let client = tokio::task::spawn_blocking(move || {
                let mut stream = std::net::TcpStream::connect(addresses[0]).expect("accepted");
                stream.write_all(&said).expect("taken");
                stream.shutdown(Shutdown::Write).expect("half closed");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("text and an end");
                answer
            });
            client.await.expect("the client ends")
        })
    }

    #[test]
    fn http_requests_are_answered_one_after_the_other() {
        let two = answer(
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcdeGET /x HTTP/1.1\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(two.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{two}");
        assert_eq!(
            two.matches("\r\n\r\nhello from backend A\n").count(),
            2,
            "{two}"
        );
        assert_eq!(two.matches("Connection: keep-alive").count(), 1, "{two}");
        assert_eq!(two.matches("Connection: close").count(), 1, "{two}");
    }

    #[test]
    fn old_and_bodyless_requests_are_answered() {
        let old = answer(b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n");
        assert_eq!(old.matches("hello").count(), 1, "{old}");
        let head = answer(b"HEAD / HTTP/1.1\r\n\r\n");
        assert!(
            head.contains("Content-Length: 21\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }

    #[test]
    fn any_other_line_is_echoed_with_the_name() {
        assert_eq!(
            answer(b"hi\r\nthere"),
            "backend A got: hi\nbackend A got: there\n"
        );
        assert_eq!(answer(b""), "");
    }
}
