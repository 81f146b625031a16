//! The binary as a process: started on a file in a directory of its own, its output kept, its
//! descriptors, threads and CPU time read from /proc. Invariant: it is gone when this is dropped, and
//! what it wrote is printed if the test has failed.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tempfile::TempDir;

use crate::admin::Admin;
use crate::eventually::{PATIENCE, least, until, until_ended};

const BINARY: &str = env!("CARGO_BIN_EXE_ringway");

/// How the binary is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launch {
    Plain,
    /// With `--watch`.
    Watching,
    /// With so many descriptors, soft and hard.
    Descriptors(u32),
    /// With so many, of which the second number is taken by files that whoever started it left open.
    Crowded(u32, u32),
    /// As a user without privileges; the test must be root.
    AsNobody,
    /// The same, with so many KiB of memory that may be locked.
    Locked(u32),
    /// Where a filter forbids io_uring, as that of containers does.
    Filtered,
    /// In the control group that has this list of processes.
    Confined(&'static str),
    /// In a network of its own, with nothing but loopback; the test must be root.
    Apart,
    /// Where the directory `dead` of its place is a file system that does not answer, and which fails once the
    /// pipe `let-go` was opened and closed; the test must be root.
    Hanging,
}

/// A directory with the file of one instance and all it writes.
#[derive(Debug)]
pub(crate) struct Workplace(TempDir);

impl Workplace {
    pub(crate) fn new() -> Workplace {
        let dir = TempDir::new().unwrap();
        // Also an instance that runs as somebody else makes its sockets and logs here.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        Workplace(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path().join("ringway.yaml")
    }

    pub(crate) fn write_config(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
    }
}

/// What it had written, printed when the test fails.
#[derive(Debug)]
struct Output {
    log: PathBuf,
}

impl Drop for Output {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("─── log of the instance ───\n{log}───────────────────────────");
        }
    }
}

/// A started process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    output: Output,
    place: Workplace,
}

/// How a process ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// `None`: by a signal.
    pub(crate) code: Option<i32>,
    /// All it wrote to standard error.
    pub(crate) log: String,
}

impl Process {
    /// `ringway run` on the file in this place.
    pub(crate) fn launch(place: Workplace, launch: Launch) -> Process {
        let config = place.config();
        Process::run(place, launch, &config)
    }

    /// `ringway run` on any file.
    pub(crate) fn run(place: Workplace, launch: Launch, config: &Path) -> Process {
        let log = place.path().join("log");
        let mut command = command(launch, place.path());
        command
            .args(["run", "-c"])
            .arg(config)
            .args((launch == Launch::Watching).then_some("--watch"))
            .current_dir(place.path());
        command
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap());
        command.stdout(File::create(place.path().join("stdout")).unwrap());
        let child = command.spawn().unwrap();
        let output = Output { log };
        Process {
            child,
            output,
            place,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.place.path()
    }

    /// Where its admin endpoint answers, once it does.
    pub(crate) fn admin(&self) -> Admin {
        Admin {
            path: self.dir().join("admin.sock"),
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.output.log).unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.dir().join("stdout")).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end by itself.
    pub(crate) fn end(&mut self) -> Ended {
        self.end_within(PATIENCE)
    }

    pub(crate) fn end_within(&mut self, patience: Duration) -> Ended {
        if self.is_running() {
            until_ended(patience, self.pid());
        }
        let code = self.child.wait().unwrap().code();
        Ended {
            code,
            log: self.log(),
        }
    }

    /// Open descriptors, without those that are about to be closed, such as the other end of a
    /// connection to the admin endpoint that was just answered.
    pub(crate) fn descriptors_kept(&self) -> usize {
        least(|| fs::read_dir(self.proc("fd")).unwrap().count())
    }

    /// Leaves it so many descriptors that it may still open; returns the limit it had.
    pub(crate) fn limit_descriptors(&self, left: usize) -> Rlimit {
        let numbers = fs::read_dir(self.proc("fd")).unwrap();
        let numbers = numbers.map(|entry| entry.unwrap().file_name());
        let open: Vec<usize> = numbers
            .map(|number| number.to_str().unwrap().parse().unwrap())
            .collect();
        let free = |limit: &usize| limit - open.iter().filter(|number| *number < limit).count();
        let limit = (0..).find(|limit| free(limit) == left).unwrap();
        // What is open above the limit stays open.
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit {
            current: Some(limit as u64),
            maximum,
        };
        prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap()
    }

    pub(crate) fn set_descriptor_limit(&self, limit: Rlimit) {
        prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap();
    }

    /// The names of its threads, sorted. Those of the control thread's helpers for blocking work come
    /// and go and are left out.
    pub(crate) fn threads(&self) -> Vec<String> {
        let mut names = Vec::new();
        // One that has just begun has the name of the process until it has given itself its own.
        until("every thread has its name", || {
            let tasks = fs::read_dir(self.proc("task")).unwrap();
            // A thread may end between the listing and the look.
            let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
            let found = tasks.filter_map(|task| name(task.ok()?));
            names = found.map(|name| name.trim().to_owned()).collect();
            names.iter().filter(|name| *name == "ringway").count() <= 1
        });
        names.retain(|name| name != "ringway-ctl");
        names.sort();
        names
    }

    /// User and system time so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).unwrap();
        // proc_pid_stat(5): utime and stime are the 14th and 15th field; the 2nd may hold spaces.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: u64 = fields[11..13]
            .iter()
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// The share of one CPU it uses while `span` passes.
    pub(crate) fn load_over(&self, span: Duration) -> f64 {
        let (before, begun) = (self.cpu_time(), Instant::now());
        std::thread::sleep(span);
        (self.cpu_time() - before).as_secs_f64() / begun.elapsed().as_secs_f64()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// What of it are receive buffers, in bytes: the arenas of the workers are its largest mappings by far.
    pub(crate) fn buffer_bytes(&self) -> u64 {
        const ARENA_KIB: u64 = 128 * 1024;
        let maps = fs::read_to_string(self.proc("smaps")).unwrap();
        let (mut mapped_kib, mut resident_kib) = (0, 0);
        for line in maps.lines() {
            let kib = |name| line.strip_prefix(name).map(|rest: &str| rest.trim());
            let kib = |name| kib(name)?.strip_suffix(" kB")?.parse::<u64>().ok();
            mapped_kib = kib("Size:").unwrap_or(mapped_kib);
            let is_arena = mapped_kib >= ARENA_KIB;
            resident_kib += kib("Rss:").filter(|_| is_arena).unwrap_or(0);
        }
        resident_kib * 1024
    }

    fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.child.id()).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only on a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number of that process's thread of that name.
pub(crate) fn thread_of(process: Pid, name: &str) -> u32 {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero())).unwrap();
    let comm = |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm"));
    let is_it = |task: &fs::DirEntry| comm(task).is_ok_and(|comm| comm.trim() == name);
    let thread = tasks.map(Result::unwrap).find(is_it);
    let thread = thread.unwrap_or_else(|| panic!("no {name}"));
    thread.file_name().to_str().unwrap().parse().unwrap()
}

/// Whether a debugger or tracer holds that thread; one that has ended was held.
pub(crate) fn is_traced(process: Pid, thread: u32) -> bool {
    let process = process.as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{process}/task/{thread}/status"));
    status.map_or(true, |status| !status.contains("TracerPid:\t0\n"))
}

fn command(launch: Launch, dir: &Path) -> Command {
    match launch {
        Launch::Plain | Launch::Watching => Command::new(BINARY),
        Launch::Descriptors(count) => {
            let mut command = Command::new("sh");
            command.args([
                "-c",
                &format!("ulimit -n {count}; exec \"$0\" \"$@\""),
                BINARY,
            ]);
            command
        }
        Launch::Crowded(count, taken) => {
            let mut command = Command::new("bash");
            let open = "for ((fd = 10; fd < 10 + $1; fd++)); do eval \"exec $fd</dev/null\"; done";
            let script = format!("ulimit -n $0; {open}; shift; exec \"$@\"");
            command.args([
                "-c",
                &script,
                &count.to_string(),
                &taken.to_string(),
                BINARY,
            ]);
            command
        }
        Launch::AsNobody => {
            let mut command = as_nobody();
            command.arg(copied(dir));
            command
        }
        Launch::Locked(kib) => {
            let mut command = as_nobody();
            let script = format!("ulimit -l {kib}; exec \"$0\" \"$@\"");
            command.args(["sh", "-c", &script]).arg(copied(dir));
            command
        }
        Launch::Filtered => {
            let mut command = Command::new("python3");
            command.args(["-c", FORBID_IO_URING, BINARY]);
            command
        }
        Launch::Confined(processes) => {
            let mut command = Command::new("sh");
            let script = format!("echo $$ >{processes} && exec \"$0\" \"$@\"");
            command.args(["-c", &script, BINARY]);
            command
        }
        Launch::Hanging => {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", HANG, BINARY]);
            command
        }
        Launch::Apart => {
            let mut command = Command::new("unshare");
            let script = "ip link set lo up && exec \"$0\" \"$@\"";
            command.args(["--net", "sh", "-c", script, BINARY]);
            command
        }
    }
}

/// A command in the network of a process.
pub(crate) fn beside(process: &Process, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    let of_process = format!("--target={}", process.child.id());
    command.args([&of_process, "--net", program]);
    command
}

fn as_nobody() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command
}

/// The binary where everybody may run it: the build directory may be closed to others.
fn copied(dir: &Path) -> PathBuf {
    let copy = dir.join("ringway");
    fs::copy(BINARY, &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    copy
}

/// Mounts a file system whose server says nothing, and leaves its connection to a process that waits.
const HANG: &str = r#"
set -e
mkdir dead
mkfifo let-go
exec 3<>/dev/fuse
mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none dead
timeout 300 cat let-go &
exec 3>&-
exec "$0" "$@"
"#;

/// Forbids io_uring_setup(2), number 425 everywhere, by a filter of seccomp(2), then runs the rest of
/// the command line.
const FORBID_IO_URING: &str = r"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL_WITH_EPERM = 0x7fff0000, 0x00050001
code = b''.join(struct.pack('HBBI', *line) for line in [
    (LOAD_NUMBER, 0, 0, 0),
    (JUMP_IF_EQUAL, 0, 1, 425),
    (RETURN, 0, 0, FAIL_WITH_EPERM),
    (RETURN, 0, 0, ALLOW),
])
lines = ctypes.create_string_buffer(code)
program = struct.pack('HxxxxxxP', 4, ctypes.addressof(lines))
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program) == 0
os.execv(sys.argv[1], sys.argv[1:])
";
