//! A launch: from the clone of a process to its end.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use td::say::error::Error;
use td::sys::structs::{RUsage, TimeVal};
use td::sys::{self, Cx, cstring};

use crate::{Result, said};

/// The number under which bwrap is given the policy.
pub const POLICY_FD: i32 = 60;

/// What is launched. In its words `@` stands for the command that runs inside and its arguments, `@KIND` for the
/// bundle of that command, of this kind.
pub struct Candidate {
    pub name: String,
    pub words: Vec<String>,
    /// A file to be given as [`POLICY_FD`].
    pub policy: Option<CString>,
    /// A mount namespace to be entered.
    pub mounts: Option<Rc<OwnedFd>>,
    /// Which of the floors it is compared to.
    pub floor: &'static str,
    /// Said in the table of what each does.
    pub note: &'static str,
}

/// A command line, ready.
pub struct Line<'a> {
    candidate: &'a Candidate,
    argv: Vec<CString>,
}

/// What a launch took, in microseconds.
#[derive(Clone, Copy)]
pub struct Sample {
    pub wall: f64,
    pub processor: f64,
}

impl Candidate {
    pub fn new(name: &str, words: Vec<String>) -> Candidate {
        Candidate { name: name.into(), words, policy: None, mounts: None, floor: "floor", note: "" }
    }

    /// With `true`, and what it is to be instead.
    pub fn line(&self, bundles: &Path, what: Option<&str>) -> Line<'_> {
        let mut argv = Vec::new();
        for word in &self.words {
            match (word.as_str(), word.strip_prefix("@")) {
                ("@", _) => {
                    argv.push(cstring("/bin/true"));
                    argv.extend(what.map(cstring));
                }
                (_, Some(kind)) => {
                    let bundle = bundles.join(kind).join(what.unwrap_or("true"));
                    argv.push(cstring(bundle.to_string_lossy().as_bytes()));
                }
                (word, None) => argv.push(cstring(word)),
            }
        }
        Line { candidate: self, argv }
    }
}

impl Line<'_> {
    /// Launch it, with `out` as its standard streams: what it took, and its exit status.
    pub fn launch(&self, cx: &Cx, out: BorrowedFd) -> Result<(Sample, u8)> {
        let begin = Instant::now();
        let pid = match sys::clone3(cx, 0, None).map_err(said)? {
            0 => {
                let error = self.become_it(cx, out).err();
                error.iter().for_each(|error| cx.say(error));
                sys::exit(cx, 125)
            }
            pid => pid,
        };
        let (status, usage) = sys::wait4_usage(cx, pid).map_err(said)?;
        let wall = begin.elapsed().as_nanos() as f64 / 1000.0;
        Ok((Sample { wall, processor: processor(&usage) }, status.exit_status()))
    }

    fn become_it(&self, cx: &Cx, out: BorrowedFd) -> std::result::Result<(), Error> {
        sys::dup_to_standard(cx, out)?;
        if let Some(policy) = &self.candidate.policy {
            let file = sys::openat(cx, None, policy, libc::O_RDONLY)?;
            let file = sys::fcntl_dupfd(cx, file.as_fd(), POLICY_FD)?;
            sys::fcntl_setfd(cx, file.as_raw_fd(), 0)?;
            std::mem::forget(file);
        }
        if let Some(mounts) = &self.candidate.mounts {
            sys::setns(cx, mounts.as_fd(), libc::CLONE_NEWNS as u64)?;
        }
        let program = self.argv.first().cloned().unwrap_or_default();
        sys::execve(cx, &program, &self.argv)
    }

    /// Launch it, which must end with `status`: what it printed.
    pub fn prints(&self, cx: &Cx, file: &Path, status: &[u8]) -> Result<(u8, String)> {
        let out =
            std::fs::File::options().create(true).truncate(true).read(true).write(true).open(file);
        let out = out.map_err(|e| format!("{}: {e}", file.display()))?;
        let (_, ended) = self.launch(cx, out.as_fd())?;
        let text = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        if !status.contains(&ended) {
            let name = &self.candidate.name;
            let words: Vec<_> = self.argv.iter().map(|word| word.to_string_lossy()).collect();
            let tail = text.lines().rev().take(5).collect::<Vec<_>>().join("\n  ");
            let expected: Vec<_> = status.iter().map(u8::to_string).collect();
            return Err(format!(
                "{name} ended with {ended}, not {}: {}\n  {tail}",
                expected.join(" or "),
                words.join(" ")
            ));
        }
        Ok((ended, text))
    }
}

fn processor(usage: &RUsage) -> f64 {
    let micro = |time: TimeVal| (time.sec * 1_000_000 + time.usec) as f64;
    micro(usage.user) + micro(usage.system)
}
