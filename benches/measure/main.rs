//! What scripts/bench runs: `measure [--quick] [--rounds N] [--alive N] [--json FILE] [--svg FILE] WORK`. WORK holds
//! the programs, a directory for each way to run them; what else is made is made there.
//!
//! All candidates are launched in turn, in one run, so that what the machine does meanwhile hits all of them. A launch
//! is measured from the clone of the process to its end as wait4(2) says it. It enters C's `main` as td does: Rust's
//! own start would hand an ignored SIGPIPE to what is measured.
#![no_main]
#![deny(unsafe_code)]

mod alive;
mod candidates;
mod check;
mod inits;
mod launch;
mod layers;
mod oci;
mod place;
mod plan;
mod report;
mod rounds;
mod sizes;

use std::ffi::c_int;
use std::path::PathBuf;

use td::say::error::Error;
use td::sys::{self, Cx, Start};

use crate::place::Place;
use crate::report::Report;

td::entry!(|start| run(start));

/// What goes wrong is said, and ends it.
pub type Result<T> = std::result::Result<T, String>;

/// An error of a call, in words.
pub fn said(error: Error) -> String {
    error.text("measure")
}

/// The command line.
#[derive(Default)]
pub struct Asked {
    pub quick: bool,
    pub rounds: usize,
    pub alive: usize,
    json: Option<PathBuf>,
    svg: Option<PathBuf>,
    work: PathBuf,
}

fn run(start: &'static Start) -> c_int {
    let cx = Cx::new(start, &[]);
    match asked(start).and_then(|asked| measure(&cx, &asked)) {
        Ok(()) => 0,
        Err(said) => {
            eprintln!("bench: {}", said.trim_end());
            1
        }
    }
}

fn asked(start: &'static Start) -> Result<Asked> {
    let words: Vec<String> = start.args.iter().map(|arg| arg.to_string_lossy().into()).collect();
    let mut asked = Asked { rounds: 300, alive: 500, ..Asked::default() };
    let mut words = words.into_iter().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number =
            |text: String| text.parse().map_err(|_| format!("{word} {text}: not a number"));
        match word.as_str() {
            "--quick" => (asked.quick, asked.rounds, asked.alive) = (true, 3, 3),
            "--rounds" => asked.rounds = number(value()?)?,
            "--alive" => asked.alive = number(value()?)?,
            "--json" => asked.json = Some(value()?.into()),
            "--svg" => asked.svg = Some(value()?.into()),
            _ => asked.work = word.into(),
        }
    }
    Ok(asked)
}

fn measure(cx: &Cx, asked: &Asked) -> Result<()> {
    // What a terminal sends goes to scripts/bench alone: what has been launched ends as it always does.
    sys::setsid(cx).map_err(said)?;
    let mut report = Report::new();
    let place = Place::new(cx, asked)?;
    check::floor_makes_what_td_run_makes(cx, &place)?;
    let all = candidates::all(&place)?;
    report.add(check::what_each_does(cx, &place, &all)?);
    rounds::containers(cx, &place, &all, asked, &mut report)?;
    rounds::steps(cx, &place, asked, &mut report)?;
    layers::measure(cx, &place, asked, &mut report)?;
    alive::measure(&place, asked, &mut report)?;
    inits::measure(&place, asked, &mut report)?;
    report.add(sizes::table(&place)?);
    report.write(asked.json.as_deref(), asked.svg.as_deref())
}
