//! haproxy, nginx, openssl and curl as neighbours of Ringway. A test whose neighbour is not
//! installed says so and passes.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::backend::Backend;
use crate::eventually::until;

/// Whether all of these programs are there; says which is not.
pub(crate) fn are_there(programs: &[&str]) -> bool {
    let is_there = |program: &&&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path);
        let found = places.any(|place| place.join(program).is_file())
            || Path::new("/usr/sbin").join(program).is_file();
        if !found {
            println!("skipped: {program} is not installed");
        }
        found
    };
    programs.iter().filter(is_there).count() == programs.len()
}

/// Not of 127.0.0.1, where other tests count on addresses that nobody listens on.
fn free_address() -> SocketAddr {
    Backend::at(SocketAddr::from(([127, 0, 1, 1], 0))).address()
}

fn command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.env("PATH", format!("{path}:/usr/sbin"));
    command
}

/// A server that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Neighbour {
    child: Child,
    addresses: Vec<SocketAddr>,
    dir: tempfile::TempDir,
}

impl Neighbour {
    /// `file` has the places `{0}`, `{1}` and so on for `ports` addresses, and `{dir}`.
    fn start(program: &str, file: &str, ports: usize, arguments: &[&str]) -> Neighbour {
        let dir = tempfile::TempDir::new().unwrap();
        let addresses: Vec<SocketAddr> = (0..ports).map(|_| free_address()).collect();
        let place = |text: &str| {
            let mut text = text.replace("{dir}", dir.path().to_str().unwrap());
            for (number, address) in addresses.iter().enumerate() {
                text = text.replace(&format!("{{{number}}}"), &address.to_string());
            }
            text
        };
        std::fs::write(dir.path().join("file"), place(file)).unwrap();
        let arguments: Vec<String> = arguments.iter().map(|text| place(text)).collect();
        let child = command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut neighbour = Neighbour {
            child,
            addresses,
            dir,
        };
        for address in neighbour.addresses.clone() {
            until("the neighbour listens", || {
                let ended = neighbour.child.try_wait().unwrap();
                assert!(ended.is_none(), "{program} has ended: {}", neighbour.log());
                TcpStream::connect(address).is_ok()
            });
        }
        neighbour
    }

    pub(crate) fn haproxy(file: &str, ports: usize) -> Neighbour {
        let file = format!(
            "global\n maxconn 100\ndefaults\n timeout connect 9s\n timeout client 60s\n timeout server 60s\n{file}"
        );
        Neighbour::start("haproxy", &file, ports, &["-db", "-q", "-f", "{dir}/file"])
    }

    pub(crate) fn nginx(file: &str, ports: usize) -> Neighbour {
        let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
        let load = match Path::new(module).exists() {
            true => format!("load_module {module};\n"),
            false => String::new(),
        };
        let file = format!(
            "{load}daemon off; master_process off; pid {{dir}}/pid; error_log stderr;\n\
             events {{ worker_connections 100; }}\n{file}"
        );
        let arguments = ["-p", "{dir}", "-e", "stderr", "-c", "{dir}/file"];
        Neighbour::start("nginx", &file, ports, &arguments)
    }

    pub(crate) fn address(&self, number: usize) -> SocketAddr {
        self.addresses[number]
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // One that has ended already is over as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = command(program);
    let command = command.args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

/// A certificate and its key, as files of this directory.
pub(crate) fn certificate(dir: &Path) {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let made = run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=ringway",
            "-days",
            "2",
            "-keyout",
            key.to_str().unwrap(),
            "-out",
            cert.to_str().unwrap(),
        ],
    );
    assert!(made.status.success(), "{made:?}");
}
