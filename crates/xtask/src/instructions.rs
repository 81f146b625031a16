//! `instructions`: what an operation of the pure crates costs in instructions, counted by callgrind
//! and compared with the reviewed figures. Not a benchmark: a busy machine changes nothing. Invariant:
//! a figure is a difference between two runs of one program, so that its start is not in it.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::build;
use crate::counts::{Change, Compared, Counts, Figures};

/// The section of the reviewed figures.
const SECTION: &str = "instructions";
/// Keeps the C library from choosing among its ways to copy memory by what this CPU can do.
const PLAIN_CPU: &str = "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX_Fast_Unaligned_Load,-BMI2,-ERMS,-FSRM";
const ACCEPT: &str = "cargo run --release -p xtask -- instructions --accept";

/// What was asked for on the command line.
#[derive(Debug, Default)]
pub(crate) struct Options {
    only: Option<String>,
    accept: bool,
}

impl Options {
    /// `None` if it is no valid command line.
    pub(crate) fn parse(words: &[&str]) -> Option<Options> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--only" => options.only = Some((*words.next()?).to_owned()),
                "--accept" => options.accept = true,
                _ => return None,
            }
        }
        // A file with figures of two compilers could not be compared with anything.
        (!(options.accept && options.only.is_some())).then_some(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    }
}

/// Counts, prints the table, and says whether no figure is worse than the reviewed one.
pub(crate) fn run(options: &Options) -> io::Result<bool> {
    if !valgrind_works() {
        println!("instructions: skipped: valgrind is not installed");
        return Ok(true);
    }
    let mut counts = Counts::read()?;
    let mut reviewed = counts.section(SECTION)?;
    let tools = tools()?;
    let release = build::release(&["-p", "xtask", "--example", "operations"])?;
    let operations = release.join("examples/operations");
    let counted = count(&operations, options)?;
    if options.accept {
        reviewed.counted_with = tools;
        reviewed.figures = counted;
        let path = counts.accept(SECTION, &reviewed)?;
        println!(
            "accepted into {}: say in the commit what they buy",
            path.display()
        );
        return Ok(true);
    }
    reviewed.figures.retain(|name, _| options.wants(name));
    let compared = reviewed.compare(&counted);
    println!(
        "{:<48} {:>12} {:>12} {:>8}  ok",
        "instructions of", "counted", "reviewed", "change"
    );
    for compared in &compared {
        println!("{}", line(compared));
    }
    let complaints = complaints(&compared, reviewed.tolerance_percent);
    if reviewed.counted_with != tools {
        println!(
            "\nfor information only: the figures were reviewed with {}, this is {tools}",
            reviewed.counted_with
        );
        return Ok(true);
    }
    for complaint in &complaints {
        println!("\n{complaint}");
    }
    if !complaints.is_empty() {
        println!("\nIf a change is worth its price, or adds or removes an operation: {ACCEPT}");
    }
    Ok(complaints.is_empty())
}

/// One line of the table.
fn line(compared: &Compared) -> String {
    let shown =
        |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.1}"));
    let Compared {
        name,
        counted,
        reviewed,
        change,
    } = compared;
    format!(
        "{name:<48} {:>12} {:>12} {:>8}  {change}",
        shown(*counted),
        shown(*reviewed),
        percent(compared).unwrap_or_default()
    )
}

/// By how much a figure has changed.
fn percent(compared: &Compared) -> Option<String> {
    let (counted, reviewed) = (compared.counted?, compared.reviewed?);
    Some(format!("{:+.1} %", (counted / reviewed - 1.0) * 100.0))
}

/// What the author of a change has to hear, one text per figure.
fn complaints(compared: &[Compared], tolerance_percent: f64) -> Vec<String> {
    let text = |compared: &Compared| {
        let name = &compared.name;
        let shown = |figure: Option<f64>| figure.unwrap_or_default();
        match compared.change {
            Change::Within | Change::Better => None,
            Change::Worse => Some(format!(
                "`{name}` takes {:.1} instructions; reviewed were {:.1} ({}, more than {tolerance_percent} %)",
                shown(compared.counted),
                shown(compared.reviewed),
                percent(compared).unwrap_or_default(),
            )),
            Change::New => Some(format!(
                "`{name}` takes {:.1} instructions and was not reviewed yet",
                shown(compared.counted)
            )),
            Change::Gone => Some(format!("`{name}` was reviewed and is not counted any more")),
        }
    };
    compared.iter().filter_map(text).collect()
}

/// The figure of each operation that is wanted.
fn count(program: &Path, options: &Options) -> io::Result<Figures> {
    let listed = Command::new(program).output()?;
    if !listed.status.success() {
        return Err(io::Error::other("the operations cannot be listed"));
    }
    let mut figures = Figures::new();
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let operation = line
            .split_once('\t')
            .and_then(|(name, repetitions)| Some((name, repetitions.parse::<u64>().ok()?)));
        let Some((name, repetitions)) = operation else {
            return Err(io::Error::other(format!("no operation: `{line}`")));
        };
        if options.wants(name) {
            let once = instructions(program, name, repetitions)?;
            let twice = instructions(program, name, repetitions * 2)?;
            let each = twice.saturating_sub(once) as f64 / repetitions as f64;
            figures.insert(name.to_owned(), (each * 10.0).round() / 10.0);
        }
    }
    Ok(figures)
}

/// All instructions of one run.
fn instructions(program: &Path, name: &str, repetitions: u64) -> io::Result<u64> {
    let output = Command::new("valgrind")
        .env("GLIBC_TUNABLES", PLAIN_CPU)
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([name, &repetitions.to_string()])
        .stdin(Stdio::null())
        .output()?;
    let report = String::from_utf8_lossy(&output.stderr);
    match (output.status.success(), collected(&report)) {
        (true, Some(count)) => Ok(count),
        (false, _) | (true, None) => Err(io::Error::other(format!("{name}: {report}"))),
    }
}

/// The total in callgrind's report.
fn collected(report: &str) -> Option<u64> {
    let (_, count) = report
        .lines()
        .find_map(|line| line.split_once("Collected : "))?;
    count.trim().parse().ok()
}

fn valgrind_works() -> bool {
    let mut command = Command::new("valgrind");
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What a figure depends on, such as `rustc 1.95.0 x86_64-unknown-linux-gnu, glibc 2.36`.
fn tools() -> io::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let compiler =
        compiler(&text).ok_or_else(|| io::Error::other(format!("`rustc -vV` says `{text}`")))?;
    let library = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let library = library.map_or_else(
        |_| "another C library".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    Ok(format!("{compiler}, {library}"))
}

/// Version and target of the compiler.
fn compiler(text: &str) -> Option<String> {
    let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    Some(format!("rustc {} {}", of("release: ")?, of("host: ")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Section;

    #[test]
    fn options_are_read_and_nothing_else_is() {
        let options = Options::parse(&["--only", "flow"]).unwrap();
        assert!(options.wants("flow: x") && !options.wants("wheel: x") && !options.accept);
        assert!(Options::parse(&["--accept"]).unwrap().accept);
        for wrong in [&["--only"][..], &["more"], &["--accept", "--only", "flow"]] {
            assert!(Options::parse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn what_the_tools_say_is_read() {
        let report = "==7== Events    : Ir\n==7== Collected : 10206176\n==7== \n";
        assert_eq!(collected(report), Some(10_206_176));
        assert_eq!(collected("==7== Events    : Ir\n"), None);
        let version = "rustc 1.95.0 (x)\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(
            compiler(version).as_deref(),
            Some("rustc 1.95.0 x86_64-unknown-linux-gnu")
        );
        assert_eq!(compiler("rustc 1.95.0"), None);
    }

    #[test]
    fn a_complaint_names_the_figure_and_by_how_much_it_is_worse() {
        let figures = |of: &[(&str, f64)]| -> Figures {
            of.iter()
                .map(|(name, figure)| ((*name).to_owned(), *figure))
                .collect()
        };
        let section = Section {
            counted_with: String::new(),
            tolerance_percent: 5.0,
            figures: figures(&[("a", 500.0), ("b", 500.0), ("c", 500.0)]),
        };
        let compared = section.compare(&figures(&[("a", 560.0), ("b", 400.0), ("d", 7.0)]));
        assert_eq!(
            complaints(&compared, section.tolerance_percent),
            [
                "`a` takes 560.0 instructions; reviewed were 500.0 (+12.0 %, more than 5 %)",
                "`c` was reviewed and is not counted any more",
                "`d` takes 7.0 instructions and was not reviewed yet",
            ]
        );
    }
}
