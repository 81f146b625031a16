//! An instance that is replaced by others: a binary of its own that can be exchanged, the processes
//! that follow each other, and clients that notice any gap. Invariant: every process is gone when this
//! is dropped, and their common log is printed if the test has failed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, waitpid};
use serde_json::Value;

use crate::admin::{Admin, Answer};
use crate::eventually::{PATIENCE, until, until_ended};
use crate::process::Workplace;

const BINARY: &str = env!("CARGO_BIN_EXE_ringway");

/// An instance and its successors.
#[derive(Debug)]
pub(crate) struct Succession {
    first: Child,
    /// Every process that has served.
    pub(crate) pids: Vec<Pid>,
    pub(crate) place: Workplace,
    pub(crate) admin: Admin,
}

/// How the first process is started.
#[derive(Debug, Default)]
pub(crate) struct Start<'a> {
    /// A command line that is to be continued by that of the binary.
    pub(crate) below: &'a [&'a str],
    /// More arguments.
    pub(crate) args: &'a [&'a str],
    pub(crate) env: Vec<(&'a str, String)>,
}

impl Succession {
    /// Starts on this file, in which `DIR` stands for its directory, and waits until it is ready.
    pub(crate) fn start(file: &str, start: &Start<'_>) -> Succession {
        let mut succession = Succession::launch(file, start);
        succession.until_ready();
        let pid = succession.serving();
        succession.pids = vec![pid];
        succession
    }

    pub(crate) fn launch(file: &str, start: &Start<'_>) -> Succession {
        // Processes whose parent has ended become this one's, so that it sees how they end.
        set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let place = Workplace::new();
        write(&place, file);
        let binary = place.path().join("ringway");
        install(Path::new(BINARY), &binary);
        let line: Vec<&str> = start.below.to_vec();
        let mut command = match line.split_first() {
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(&binary);
                command
            }
            None => Command::new(&binary),
        };
        command.args(["run", "-c"]).arg(place.config());
        command.args(start.args).current_dir(place.path());
        command.envs(start.env.iter().cloned());
        let log = File::create(place.path().join("log")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let first = command.spawn().unwrap();
        let admin = Admin {
            path: place.path().join("admin.sock"),
        };
        Succession {
            pids: vec![Pid::from_child(&first)],
            first,
            place,
            admin,
        }
    }

    pub(crate) fn until_ready(&mut self) {
        until("it is ready", || {
            assert!(
                self.first.try_wait().unwrap().is_none(),
                "it has ended: {}",
                self.log()
            );
            self.admin
                .get("/readyz")
                .is_ok_and(|answer| answer.status == 200)
        });
    }

    /// The process that answers.
    pub(crate) fn serving(&self) -> Pid {
        let pid = self.admin.status()["pid"].as_i64().unwrap();
        Pid::from_raw(pid.try_into().unwrap()).unwrap()
    }

    pub(crate) fn write(&self, file: &str) {
        write(&self.place, file);
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap()
    }

    pub(crate) fn address(&self, listener: usize, at: usize) -> String {
        self.admin.status()["listeners"][listener]["addresses"][at]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Puts something else where the binary is, as an installation does.
    pub(crate) fn replace_binary(&self, script: &str) {
        let path = self.place.path().join("script");
        fs::write(&path, script).unwrap();
        install(&path, &self.place.path().join("ringway"));
    }

    /// Puts the binary back, as a file of its own.
    pub(crate) fn restore_binary(&self) {
        install(Path::new(BINARY), &self.place.path().join("ringway"));
    }

    pub(crate) fn ask(&self) -> Answer {
        self.admin.post("/v1/upgrade").unwrap()
    }

    /// An upgrade that succeeds; the process that serves from now on.
    pub(crate) fn upgrade(&mut self) -> Pid {
        let answer = self.ask();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        let pid = self.serving();
        assert_eq!(told["pid"], pid.as_raw_nonzero().get());
        assert!(!self.pids.contains(&pid));
        self.pids.push(pid);
        pid
    }

    /// An upgrade that fails and changes nothing; what is said about it.
    pub(crate) fn fail(&self, status: u16) -> String {
        let before = self.serving();
        let answer = self.ask();
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(self.serving(), before);
        let children = format!("/proc/{0}/task/{0}/children", before.as_raw_nonzero());
        assert_eq!(
            fs::read_to_string(children).unwrap(),
            "",
            "processes are left"
        );
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        body["error"].as_str().unwrap().to_owned()
    }

    /// The exit code of a process of this line, which has to end by itself.
    pub(crate) fn ended(&mut self, pid: Pid) -> Option<i32> {
        until_ended(PATIENCE, pid);
        self.pids.retain(|one| *one != pid);
        if pid == Pid::from_child(&self.first) {
            return self.first.wait().unwrap().code();
        }
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        status.exit_status()
    }

    /// Ends the last process, and all before it.
    pub(crate) fn stop(&mut self) {
        kill_process(self.serving(), Signal::TERM).unwrap();
        for pid in self.pids.clone() {
            assert_eq!(self.ended(pid), Some(0), "{}", self.log());
        }
    }
}

impl Drop for Succession {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.place.path().join("log")).unwrap_or_default();
            eprintln!("─── log of the processes ───\n{log}───────────────────────────");
        }
        for pid in &self.pids {
            // One that has ended is there to be waited for.
            let _ = kill_process(*pid, Signal::KILL);
            if *pid != Pid::from_child(&self.first) {
                let _ = waitpid(Some(*pid), WaitOptions::empty());
            }
        }
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

/// Copies a program by another process: what this one has open for writing, those that other tests
/// start would hold for a moment, and a file that is held so cannot be executed.
fn install(from: &Path, to: &Path) {
    let next = to.with_extension("next");
    let mut command = Command::new("install");
    let status = command.args(["-m", "755"]).args([from, &next]).status();
    assert!(status.unwrap().success());
    fs::rename(&next, to).unwrap();
}

fn write(place: &Workplace, file: &str) {
    place.write_config(&file.replace("DIR", place.path().to_str().unwrap()));
}

/// Where clients connect to.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

impl Door {
    pub(crate) fn of(address: &str) -> Door {
        match address.strip_prefix("unix:") {
            Some(path) => Door::Unix(Path::new(path).to_owned()),
            None => Door::Tcp(address.parse().unwrap()),
        }
    }

    fn open(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Door::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
            Door::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
        }
    }

    /// One connection to an echo that greets: a greeting, and a message there and back.
    pub(crate) fn visit(&self) -> io::Result<()> {
        let mut stream = self.open()?;
        let (mut greeting, mut answer) = ([0; 1], [0; 64]);
        stream.read_exact(&mut greeting)?;
        stream.write_all(&[7; 64])?;
        stream.read_exact(&mut answer)?;
        Ok(())
    }
}

/// Clients that come one after the other, until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn on(doors: &[Door]) -> Load {
        let mut load = Load {
            stop: Arc::default(),
            served: Arc::default(),
            failed: Arc::default(),
            threads: Vec::new(),
        };
        for door in doors {
            let door = door.clone();
            let (stop, served) = (Arc::clone(&load.stop), Arc::clone(&load.served));
            let failed = Arc::clone(&load.failed);
            load.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match door.visit() {
                        Ok(()) => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => failed.lock().unwrap().push(format!("{door:?}: {error}")),
                    }
                }
            }));
        }
        load
    }

    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// Waits for so many more.
    pub(crate) fn until_served(&self, more: usize) {
        let target = self.served() + more;
        until("clients are served", || self.served() >= target);
    }

    /// Stops the clients; none may have failed.
    pub(crate) fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .drain(..)
            .for_each(|thread| thread.join().unwrap());
        let failed = self.failed.lock().unwrap();
        assert!(
            failed.is_empty(),
            "{} of {} failed: {:?}",
            failed.len(),
            self.served(),
            failed.first()
        );
        self.served()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
