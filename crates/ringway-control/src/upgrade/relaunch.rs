//! How the binary was started, to start it again: by the path it was started by and not by the file it
//! came from, so that what an operator has put there since is what runs.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How to start the new process of an upgrade.
#[derive(Clone, Debug)]
pub struct Relaunch {
    /// The binary.
    pub program: PathBuf,
    /// Its name as it is to see it.
    pub name: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// How long the new process may take until it is prepared.
    pub within: Duration,
}

impl Relaunch {
    /// As this process was started; to be called before the file can have been replaced.
    pub fn of_process(within: Duration) -> std::io::Result<Relaunch> {
        let mut args = std::env::args_os();
        let name = args.next().unwrap_or_default();
        let running = std::fs::metadata("/proc/self/exe")?;
        let is_it = |path: &PathBuf| {
            let found = std::fs::metadata(path);
            found.is_ok_and(|found| (found.dev(), found.ino()) == (running.dev(), running.ino()))
        };
        // Whoever started it may have given it any name; then it is the file itself.
        let named = candidates(Path::new(&name)).into_iter().find(is_it);
        let program = match named {
            Some(program) => program,
            None => std::env::current_exe()?,
        };
        Ok(Relaunch {
            program,
            name,
            args: args.collect(),
            within,
        })
    }
}

/// What a name may mean: itself, or a file of that name where commands are.
fn candidates(name: &Path) -> Vec<PathBuf> {
    if name.components().count() > 1 || name.is_absolute() {
        return std::path::absolute(name).into_iter().collect();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_directory_is_a_path_and_another_a_command() {
        let found = candidates(Path::new("./ringway"));
        assert_eq!(found.len(), 1);
        assert!(found[0].is_absolute(), "{found:?}");
        assert!(candidates(Path::new("sh")).len() > 1);
    }

    #[test]
    fn it_is_this_file_whatever_its_name() {
        let found = Relaunch::of_process(Duration::ZERO).unwrap();
        let exe = std::env::current_exe().unwrap();
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&found.program), inode(&exe));
    }
}
