//! A client of the admin endpoint: one HTTP/1.1 request per connection, over TCP or a unix socket.
//! Not a general HTTP client: no redirects, no TLS, no keep-alive. Invariant: it waits for no step
//! longer than [`STEP_TIMEOUT`] and keeps no more of an answer than [`BODY_BYTES_MAX`], whatever the
//! other side is.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use ringway_config::{AdminBind, BackendAddress};

use crate::cli::Instance;
use crate::failure::Failure;

mod percent;
mod response;

pub(crate) use percent::encoded;
pub(crate) use response::{MalformedResponse, Response};

/// Longest wait for a connection, or for the next bytes of an answer. A drain or reload answers
/// when every worker has, and a loaded machine is slow.
const STEP_TIMEOUT: Duration = Duration::from_secs(12);
/// Largest answer that is kept, in bytes: the status of every pool and backend a file may have.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Longest token file that is read.
const TOKEN_BYTES_MAX: u64 = 4096;

/// The admin endpoint of a running instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    address: BackendAddress,
    /// Holds what changes may need; read only for those.
    token_file: Option<PathBuf>,
}

impl Endpoint {
    /// An endpoint whose address is known.
    pub(crate) fn new(address: BackendAddress) -> Endpoint {
        Endpoint {
            address,
            token_file: None,
        }
    }

    /// The endpoint meant by the flags: the address, or that of the file, or the default.
    pub(crate) fn of(instance: &Instance) -> Result<Endpoint, Failure> {
        let given = instance.token_file.clone();
        let (bind, token_file) = match (&instance.admin, &instance.config) {
            (Some(address), _) => {
                return Ok(Endpoint {
                    address: address.clone(),
                    token_file: given,
                });
            }
            (None, Some(file)) => {
                let config = ringway_config::load(file)?;
                let bind = config.admin.ok_or_else(|| {
                    Failure::Runtime(format!("{}: the admin endpoint is off", file.display()))
                })?;
                (bind, given.or(config.admin_token_file))
            }
            (None, None) => (AdminBind::default(), given),
        };
        let endpoint = |address| Endpoint {
            address,
            token_file,
        };
        match bind {
            AdminBind::Tcp(address) if address.port() == 0 => Err(Failure::Runtime(
                "the file lets the kernel choose the admin port: give the address with --admin"
                    .to_owned(),
            )),
            AdminBind::Tcp(address) => Ok(endpoint(BackendAddress::Tcp(address))),
            AdminBind::Unix(path) => Ok(endpoint(BackendAddress::Unix(path))),
        }
    }

    /// Sends a request without a body; `method` and `path` go out as they are.
    ///
    /// # Errors
    /// When nothing answers, or not in HTTP, or with a status other than 2xx.
    pub(crate) fn request(&self, method: Method, path: &str) -> Result<Response, ClientError> {
        self.exchange(method, path, "", STEP_TIMEOUT)
    }

    /// The same with a body of JSON.
    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<Response, ClientError> {
        self.exchange(method, path, body, STEP_TIMEOUT)
    }

    /// The same without a body, for a request whose answer may take longer.
    pub(crate) fn request_within(
        &self,
        method: Method,
        path: &str,
        answer_timeout: Duration,
    ) -> Result<Response, ClientError> {
        self.exchange(method, path, "", answer_timeout)
    }

    fn exchange(
        &self,
        method: Method,
        path: &str,
        body: &str,
        answer_timeout: Duration,
    ) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable {
            endpoint: self.clone(),
            source,
        };
        let broken = |source| ClientError::Broken {
            endpoint: self.clone(),
            source,
        };
        let authorization = self.authorization(method)?;
        let mut stream = self.connect(answer_timeout).map_err(unreachable)?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n{authorization}\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.host(),
            body.len()
        );
        stream
            .write_all(request.as_bytes())
            .map_err(|error| broken(error.into()))?;
        let response =
            Response::read(&mut BufReader::new(stream), BODY_BYTES_MAX).map_err(broken)?;
        match response.status {
            200..=299 => Ok(response),
            _ => Err(ClientError::Refused {
                endpoint: self.clone(),
                response,
            }),
        }
    }

    /// The line that lets a change through, if there is a token.
    fn authorization(&self, method: Method) -> Result<String, ClientError> {
        let path = match (method, &self.token_file) {
            (Method::Post | Method::Patch, Some(path)) => path,
            (Method::Post | Method::Patch, None) | (Method::Get, _) => return Ok(String::new()),
        };
        let unusable = |source| ClientError::Token {
            path: path.clone(),
            source,
        };
        let mut text = String::new();
        let file = File::open(path).map_err(unusable)?;
        let read = file.take(TOKEN_BYTES_MAX).read_to_string(&mut text);
        read.map_err(unusable)?;
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what = "a token is one word of ASCII characters";
            return Err(unusable(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        Ok(format!("Authorization: Bearer {token}\r\n"))
    }

    /// Changes are taken only with an IP address or `localhost` here.
    fn host(&self) -> String {
        match &self.address {
            BackendAddress::Tcp(address) => address.to_string(),
            BackendAddress::Unix(_) => "localhost".to_owned(),
        }
    }

    fn connect(&self, answer_timeout: Duration) -> io::Result<Box<dyn Stream>> {
        match &self.address {
            BackendAddress::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, STEP_TIMEOUT)?;
                stream.set_read_timeout(Some(answer_timeout))?;
                stream.set_write_timeout(Some(STEP_TIMEOUT))?;
                Ok(Box::new(stream))
            }
            BackendAddress::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(answer_timeout))?;
                stream.set_write_timeout(Some(STEP_TIMEOUT))?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Looks.
    Get,
    /// Has something done.
    Post,
    /// Changes a part.
    Patch,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::Get => write!(f, "GET"),
            Method::Post => write!(f, "POST"),
            Method::Patch => write!(f, "PATCH"),
        }
    }
}

/// Why there is no answer to use.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// Nothing accepts connections there.
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// The token cannot be read; nothing was sent.
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The connection ended or stalled, or what came is not HTTP.
    Broken {
        /// Where.
        endpoint: Endpoint,
        /// What happened.
        source: MalformedResponse,
    },
    /// An answer, and it says no.
    Refused {
        /// Where.
        endpoint: Endpoint,
        /// With a status other than 2xx.
        response: Response,
    },
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable { endpoint, source } => write!(
                f,
                "no instance answers at {endpoint}: {source}; \
                 is it running, and is this its admin endpoint (--admin)?"
            ),
            ClientError::Token { path, source } => {
                write!(f, "the token file {}: {source}", path.display())
            }
            ClientError::Broken { endpoint, source } => {
                write!(f, "{endpoint} is no admin endpoint of Ringway: {source}")
            }
            ClientError::Refused { endpoint, response } => {
                write!(
                    f,
                    "{endpoint} answered {}: {}",
                    response.status,
                    response.reason()
                )
            }
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::Unreachable { source, .. } | ClientError::Token { source, .. } => {
                Some(source)
            }
            ClientError::Broken { source, .. } => Some(source),
            ClientError::Refused { .. } => None,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Runtime(error.to_string())
    }
}

#[cfg(test)]
mod tests;
