//! Running the binary: to its end, or in the background with its lines read one by one.
//! Invariant: no test waits longer than [`PATIENCE`], and no process outlives its test.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The binary under test.
pub(crate) const RINGWAY: &str = env!("CARGO_BIN_EXE_ringway");

/// What a command that ended left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
        Ended {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// Runs `ringway` with `arguments` to its end.
pub(crate) fn ringway(arguments: &[&str]) -> Ended {
    let mut command = Command::new(RINGWAY);
    command.args(arguments);
    to_end(command)
}

/// Runs a command to its end.
pub(crate) fn to_end(mut command: Command) -> Ended {
    command.stdin(Stdio::null());
    command.output().expect("the command can be started").into()
}

/// A folder with one configuration in it.
#[derive(Debug)]
pub(crate) struct ConfigFolder {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl ConfigFolder {
    pub(crate) fn new(text: &str) -> ConfigFolder {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ringway.yaml");
        std::fs::write(&path, text).expect("written");
        ConfigFolder {
            _folder: folder,
            path,
        }
    }

    pub(crate) fn file(&self) -> &str {
        self.path.to_str().expect("a temporary path is text")
    }
}

/// A process in the background. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    child: Child,
    lines: Receiver<String>,
    read: Vec<String>,
}

impl Background {
    /// Starts `ringway` with `arguments`; its lines are those of standard output and error.
    pub(crate) fn start(arguments: &[&str]) -> Background {
        let mut child = Command::new(RINGWAY)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let (sender, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for stream in streams {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Background {
            child,
            lines,
            read: Vec::new(),
        }
    }

    /// The next line with `word` in it.
    pub(crate) fn line_with(&mut self, word: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.read.push(line.clone());
                    if line.contains(word) {
                        return line;
                    }
                }
                Err(error) => panic!("{error}: no line with {word:?} in {:#?}", self.read),
            }
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for the end; all lines, and how it ended.
    pub(crate) fn end(mut self) -> (Vec<String>, ExitStatus) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.read.push(line),
                // Both streams are closed: it has ended, or is about to.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:#?}", self.read),
            }
        }
        let status = self.child.wait().expect("it can be waited for");
        (std::mem::take(&mut self.read), status)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Fails when it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
