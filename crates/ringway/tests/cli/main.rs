//! The command as its users meet it: the real binary, its output, its exit codes. Not how well it
//! balances. Every port is one the kernel chose, and every wait ends.

mod config;
mod demo;
mod denied;
mod instance;
mod packaging;
mod process;
mod usage;
