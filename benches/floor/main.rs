//! The floor: one process that makes the whole flow of td-run, as it is by default with a limit of memory and one of
//! processes, by td's own system call layer. There is no shell, no chain, nothing is read from the command line but
//! paths, and nothing is looked for: what td-run finds out is given. What is left is what the kernel charges, which
//! other ways are compared to.
//!
//! `floor [--trace=FD] STATE NAME IMAGE POLICY [WORD PATH]... -- COMMAND [ARG]...`, as benches/measure calls it: POLICY
//! is a compiled policy, and a WORD is one of
//!
//! - `record`: not a path, but what is recorded of them;
//! - `cgroup`: create it, and remove it in the end; `write VALUE`: into this file of one;
//! - `tasks`: the process joins a cgroup of version 1 by this file; `into`: it is born in this one of version 2;
//! - `mask-file`, `mask-dir`, `read-only`: what is hidden or cannot be written to inside.
//!
//! `floor --bare [--trace=FD] NAME IMAGE POLICY …` makes neither lock, state, cgroup nor overlay, for the comparison
//! to programs that make none: the root is IMAGE, bound on itself.
#![no_main]
#![deny(unsafe_code)]

mod inside;
mod outside;
mod remove;
mod root;

use std::ffi::{CStr, CString, c_int};

use td::say::error::Error;
use td::say::number::decimal;
use td::sys::{Cx, Handed, Start};

td::entry!(|start| run(start));

/// The command line.
pub struct Asked {
    /// `None`: the bare form.
    state: Option<&'static CStr>,
    name: &'static CStr,
    image: &'static CStr,
    policy: &'static CStr,
    words: Vec<(&'static [u8], &'static CStr)>,
    command: &'static [CString],
}

fn run(start: &'static Start) -> c_int {
    let cx = Cx::new(start, &[]);
    let (status, _) = flow(&cx).map_or_else(
        |error| {
            cx.say(&error);
            (error.status(), Some(error))
        },
        |status| (status, None),
    );
    status.into()
}

fn flow(cx: &Cx) -> Result<u8, Error> {
    let args = &cx.start.args[1..];
    let has =
        |i: usize, option: &str| args.get(i).is_some_and(|a| a.to_bytes() == option.as_bytes());
    let at = usize::from(has(0, "--bare") || has(0, "--inside"));
    let trace = args.get(at).and_then(|arg| decimal(arg.to_bytes().strip_prefix(b"--trace=")?));
    let handed = Handed { trace: trace.map(|fd| (fd as i32, 0)), ..Handed::NOTHING };
    cx.begin("floor", args, handed, &[]);
    let rest = &args[at + usize::from(trace.is_some())..];
    match has(0, "--inside") {
        true => inside::run(cx, rest),
        false => outside::run(cx, &asked(rest, has(0, "--bare"))?),
    }
}

fn asked(args: &'static [CString], bare: bool) -> Result<Asked, Error> {
    let mut args = args.iter();
    let mut next = || {
        let refuse = || Error::refusal("the command line is that of benches/measure");
        args.next().map(CString::as_c_str).ok_or_else(refuse)
    };
    let state = if bare { None } else { Some(next()?) };
    let (name, image, policy) = (next()?, next()?, next()?);
    let mut words = Vec::new();
    loop {
        match next()?.to_bytes() {
            b"--" => break,
            word => words.push((word, next()?)),
        }
    }
    Ok(Asked { state, name, image, policy, words, command: args.as_slice() })
}

impl Asked {
    /// The paths behind a word.
    fn paths(&self, word: &'static [u8]) -> impl DoubleEndedIterator<Item = &'static CStr> {
        self.words.iter().filter(move |(w, _)| *w == word).map(|(_, path)| *path)
    }
}
