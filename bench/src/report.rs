//! `report`: recorded runs as one page, or as a table in Markdown. Invariant: nothing is shown that
//! is not in the record, and the page needs nothing but itself.

mod page;
mod plot;

use std::fs;
use std::io;

use crate::cli::Report;
use crate::compare::record::Run;
use crate::compare::{summary, table};

pub(crate) fn run(args: &Report) -> io::Result<()> {
    let mut runs = Vec::with_capacity(args.runs.len());
    for directory in &args.runs {
        runs.push(Run::load(directory)?);
    }
    if args.markdown {
        for run in &runs {
            println!("{}", table::markdown(&summary::rows(run)));
        }
    }
    if let Some(out) = &args.out {
        let named = |error| io::Error::other(format!("{}: {error}", out.display()));
        fs::write(out, page::page(&runs)).map_err(named)?;
    }
    Ok(())
}
