//! Who is compared, and how each is run with equal semantics: a worker per CPU it is given, TCP_NODELAY on both sides,
//! timeouts on, half-close passed on, no access log, the same queue of connections. Not its
//! processes. Invariant: what is written here is recorded with the run.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Resource, getrlimit};

use crate::cli::PeerName;
use crate::peer::Relay;

/// A balancer that takes part.
#[derive(Debug, Clone)]
pub(super) struct Contender {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) kind: Kind,
    pub(super) program: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ringway,
    Peer(PeerName),
}

/// How to run a contender.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) command: Vec<String>,
    /// The text of its configuration file, if it has one.
    pub(super) configuration: String,
}

/// Where Debian has programs that are not on everybody's path.
const SYSTEM_PROGRAMS: &str = "/usr/sbin";
/// nginx's TCP part, where Debian ships it as a module.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;
/// Connections at once, where descriptors suffice.
const CONNECTIONS_MAX: u64 = 40_000;
/// Descriptors that a balancer may need for two connections: two sockets each, and a pipe for one of four, as HAProxy
/// reckons.
const DESCRIPTORS_OF_TWO: u64 = 5;
/// Descriptors that it has besides.
const SPARE_DESCRIPTORS: u64 = 250;

/// What nginx counts as connections besides: listeners, and more.
const SPARE_CONNECTIONS: u64 = 64;

/// The connections that every balancer here can hold: descriptors are inherited.
pub(super) fn connections_max() -> u64 {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(CONNECTIONS_MAX, |limit| {
        (limit.saturating_sub(SPARE_DESCRIPTORS) * 2 / DESCRIPTORS_OF_TWO).min(CONNECTIONS_MAX)
    })
}

impl Contender {
    pub(super) fn ringway(name: &str, program: PathBuf) -> io::Result<Contender> {
        let version = first_line(&program, "--version")
            .ok_or_else(|| io::Error::other(format!("{}: cannot be run", program.display())))?;
        Ok(Contender {
            name: name.to_owned(),
            version,
            kind: Kind::Ringway,
            program,
        })
    }

    /// The peer `name`, or why it cannot take part.
    pub(super) fn peer(name: PeerName) -> Result<Contender, String> {
        let found = match name {
            PeerName::Haproxy | PeerName::HaproxySplice => installed("haproxy", "-v"),
            PeerName::Nginx => installed("nginx", "-v").and_then(|found| {
                let (program, version) = &found;
                match Path::new(NGINX_STREAM).exists() || has_stream(program) {
                    true => Ok(found),
                    false => Err(format!("{version} without its stream module")),
                }
            }),
            PeerName::Tokio | PeerName::Monoio => {
                let program = std::env::current_exe().map_err(|error| error.to_string());
                program.map(|program| (program, format!("{} of this program", peer_name(name))))
            }
        };
        let (program, version) = found?;
        Ok(Contender {
            name: peer_name(name).to_owned(),
            version,
            kind: Kind::Peer(name),
            program,
        })
    }

    /// Writes what it needs into `directory` and says how to run it between `relays`.
    pub(super) fn prepare(
        &self,
        directory: &Path,
        relays: &[Relay],
        cpus: &[usize],
    ) -> io::Result<Launch> {
        let file = directory.join(format!("{}.conf", self.name));
        let (program, file_name) = (self.program.display(), file.display());
        let (configuration, line) = match self.kind {
            Kind::Ringway => (
                ringway(relays, cpus),
                format!("{program} run -c {file_name}"),
            ),
            Kind::Peer(PeerName::Haproxy) => (
                haproxy(relays, cpus.len(), ""),
                format!("{program} -f {file_name} -db -q"),
            ),
            Kind::Peer(PeerName::HaproxySplice) => (
                haproxy(
                    relays,
                    cpus.len(),
                    "  option splice-request\n  option splice-response\n",
                ),
                format!("{program} -f {file_name} -db -q"),
            ),
            Kind::Peer(PeerName::Nginx) => {
                let errors = directory.join("nginx.log");
                (
                    nginx(relays, cpus.len(), directory),
                    format!("{program} -c {file_name} -e {}", errors.display()),
                )
            }
            Kind::Peer(name @ (PeerName::Tokio | PeerName::Monoio)) => (
                String::new(),
                format!("{program} peer {} {}", peer_name(name), flags(relays)),
            ),
        };
        fs::write(&file, &configuration)?;
        Ok(Launch {
            command: line.split_whitespace().map(str::to_owned).collect(),
            configuration,
        })
    }

    /// Whether it can have so many workers.
    pub(super) fn can_have(&self, workers: usize) -> bool {
        match self.kind {
            Kind::Peer(PeerName::Tokio | PeerName::Monoio) => workers == 1,
            Kind::Ringway
            | Kind::Peer(PeerName::Haproxy | PeerName::HaproxySplice | PeerName::Nginx) => true,
        }
    }

    /// Whether it can hold many idle connections.
    pub(super) fn holds_many(&self) -> bool {
        match self.kind {
            // Two kernel threads for each idle connection, and as many as the machine's limit.
            Kind::Peer(PeerName::Monoio) => false,
            Kind::Ringway
            | Kind::Peer(
                PeerName::Haproxy | PeerName::HaproxySplice | PeerName::Nginx | PeerName::Tokio,
            ) => true,
        }
    }
}

pub(crate) fn peer_name(name: PeerName) -> &'static str {
    match name {
        PeerName::Haproxy => "haproxy",
        PeerName::HaproxySplice => "haproxy-splice",
        PeerName::Nginx => "nginx",
        PeerName::Tokio => "tokio",
        PeerName::Monoio => "monoio",
    }
}

fn ringway(relays: &[Relay], cpus: &[usize]) -> String {
    let mut text = format!("workers: {cpus:?}\nlisteners:\n");
    for (place, relay) in relays.iter().enumerate() {
        let _ = writeln!(
            text,
            "  l{place}: {{bind: \"{}\", pool: p{place}}}",
            relay.listen
        );
    }
    text.push_str("pools:\n");
    for (place, relay) in relays.iter().enumerate() {
        let backends: Vec<String> = relay
            .backends
            .iter()
            .map(|backend| format!("{{address: \"{backend}\"}}"))
            .collect();
        let _ = writeln!(
            text,
            "  p{place}: {{balance: round_robin, backends: [{}], health_check: \"off\"}}",
            backends.join(", ")
        );
    }
    text.push_str("admin: {bind: \"off\"}\nlog: {level: warn}\nshutdown: {drain: 1s}\n");
    text
}

fn haproxy(relays: &[Relay], workers: usize, options: &str) -> String {
    let most = connections_max();
    let mut text = format!(
        "global\n  nbthread {workers}\n  maxconn {most}\ndefaults\n  mode tcp\n\
         {options}  timeout connect 3s\n  timeout client 10m\n  timeout server 10m\n  \
         timeout client-fin 30s\n  timeout server-fin 30s\n"
    );
    for (place, relay) in relays.iter().enumerate() {
        let _ = write!(
            text,
            "listen l{place}\n  bind {} backlog {BACKLOG}\n  maxconn {most}\n  \
             balance roundrobin\n",
            relay.listen
        );
        for (number, backend) in relay.backends.iter().enumerate() {
            let _ = writeln!(text, "  server s{number} {backend}");
        }
    }
    text
}

fn nginx(relays: &[Relay], workers: usize, directory: &Path) -> String {
    // A listening socket of each worker's own, as Ringway has.
    let own = if workers > 1 { " reuseport" } else { "" };
    let mut text = String::new();
    if Path::new(NGINX_STREAM).exists() {
        let _ = writeln!(text, "load_module {NGINX_STREAM};");
    }
    if rustix::process::getuid().is_root() {
        text.push_str("user root;\n");
    }
    let _ = write!(
        text,
        "daemon off;\nworker_processes {workers};\npid {};\n\
         events {{ worker_connections {}; }}\nstream {{\n  access_log off;\n",
        directory.join("nginx.pid").display(),
        // A connection and its other half.
        connections_max() * 2 + SPARE_CONNECTIONS,
    );
    for (place, relay) in relays.iter().enumerate() {
        let _ = write!(text, "  upstream p{place} {{");
        for backend in &relay.backends {
            let _ = write!(text, " server {backend} max_fails=0;");
        }
        let _ = write!(
            text,
            " }}\n  server {{\n    listen {} backlog={BACKLOG}{own};\n    proxy_pass p{place};\n    \
             tcp_nodelay on;\n    proxy_half_close on;\n    proxy_connect_timeout 3s;\n    \
             proxy_timeout 10m;\n  }}\n",
            relay.listen
        );
    }
    text.push_str("}\n");
    text
}

fn flags(relays: &[Relay]) -> String {
    let flag = |relay: &Relay| {
        let backends: Vec<String> = relay.backends.iter().map(SocketAddr::to_string).collect();
        format!("--relay {}={}", relay.listen, backends.join("+"))
    };
    let flags: Vec<String> = relays.iter().map(flag).collect();
    flags.join(" ")
}

/// Where `program` is and what it calls itself.
fn installed(program: &str, flag: &str) -> Result<(PathBuf, String), String> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        .chain([PathBuf::from(SYSTEM_PROGRAMS)])
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| "not installed".to_owned())?;
    let version = first_line(&found, flag).ok_or_else(|| "cannot be run".to_owned())?;
    Ok((found, version))
}

fn has_stream(nginx: &Path) -> bool {
    let output = Command::new(nginx).arg("-V").output();
    // `--with-stream=dynamic` would be the module, which is not there.
    output.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stderr)
            .split_whitespace()
            .any(|word| word == "--with-stream")
    })
}

/// The first line that a program prints, wherever it prints it.
fn first_line(program: &Path, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relays() -> Vec<Relay> {
        vec![
            "127.0.0.1:1=127.0.0.1:2+127.0.0.1:3".parse().unwrap(),
            "127.0.0.1:4=127.0.0.1:5".parse().unwrap(),
        ]
    }

    #[test]
    fn every_listener_and_backend_is_in_every_configuration() {
        let relays = relays();
        let directory = Path::new("/tmp/somewhere");
        for text in [
            ringway(&relays, &[3]),
            haproxy(&relays, 1, ""),
            nginx(&relays, 1, directory),
            flags(&relays),
        ] {
            for port in 1..=5 {
                assert!(
                    text.contains(&format!("127.0.0.1:{port}")),
                    "{port}: {text}"
                );
            }
        }
        assert!(ringway(&relays, &[3]).starts_with("workers: [3]\n"));
    }

    #[test]
    fn two_workers_are_asked_for_by_name() {
        let (relays, directory) = (relays(), Path::new("/tmp/somewhere"));
        assert!(ringway(&relays, &[0, 1]).starts_with("workers: [0, 1]\n"));
        assert!(haproxy(&relays, 2, "").contains("nbthread 2\n"));
        let text = nginx(&relays, 2, directory);
        assert!(text.contains("worker_processes 2;") && text.contains(" reuseport;"));
        assert!(!nginx(&relays, 1, directory).contains("reuseport"));
    }

    #[test]
    fn the_baselines_take_the_flags_they_are_given() {
        use clap::Parser;
        let line = format!("ringway-bench peer tokio {}", flags(&relays()));
        assert!(crate::cli::Cli::try_parse_from(line.split(' ')).is_ok());
    }
}
