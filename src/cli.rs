//! The command line of a tool: its options, with their values, its operands, and PROG.

mod common;
pub mod others;

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt::{self, Display, Formatter};
use std::ops::Deref;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use common::{Common, usage};
use lexopt::Arg;
use others::Others;

use crate::say::error::{Error, Words};
use crate::say::number::fixed;
use crate::say::show::plain;
use crate::sys::{self, Handed, cstring};

/// PROG: a program with its arguments, of which the first is its name.
#[derive(Clone, Copy, Default)]
pub struct Prog {
    args: &'static [CString],
    behind_dashes: bool,
}

impl Prog {
    /// The tail of a command line; `None` for an empty one.
    pub fn new(args: &'static [CString]) -> Option<Prog> {
        (!args.is_empty()).then_some(Prog { args, behind_dashes: false })
    }

    /// Does `--` stand before it?
    pub fn is_behind_dashes(&self) -> bool {
        self.behind_dashes
    }

    /// The name of the program, as it was written.
    pub fn name(&self) -> &CStr {
        self.args.first().map(CString::as_c_str).unwrap_or_default()
    }

    /// The arguments, the name too.
    pub fn args(&self) -> &'static [CString] {
        self.args
    }
}

/// The command line of a tool, read from left to right up to PROG.
pub struct Cli {
    parser: lexopt::Parser,
    tool: &'static str,
    help: &'static str,
    args: &'static [CString],
    /// What this command line says of what every tool is told.
    pub common: Common,
    operand: Option<OsString>,
    /// Does `--` stand before the next operand?
    behind_dashes: bool,
    /// An option that was read ahead, see [`Cli::optional_path`].
    ahead: Option<Result<Option<String>, lexopt::Error>>,
}

/// The value of an option as text. A message shows it escaped.
pub struct Word(pub String);

impl Deref for Word {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Display for Word {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(&plain(self.as_bytes()))
    }
}

impl Cli {
    /// Of `tool`, whose name is the first of `args`.
    pub fn new(
        tool: &'static str,
        help: &'static str,
        args: &'static [CString],
        handed: Handed,
    ) -> Cli {
        let words = args.iter().skip(1).map(|arg| OsStr::from_bytes(arg.to_bytes()));
        let parser = lexopt::Parser::from_args(words);
        let (operand, ahead, common) = (None, None, Common::new(tool, handed));
        Cli { parser, tool, help, args, common, operand, behind_dashes: false, ahead }
    }

    /// The next option as it was typed, `-m` or `--mount`; `None` at the first operand.
    pub fn option(&mut self) -> Result<Option<String>, Error> {
        let tool = self.tool;
        while let Some(option) = self.next().map_err(|e| misread(tool, e))? {
            match option.as_str() {
                "--help" => self.print(&[self.help, common::COMMON])?,
                "--version" => {
                    self.print(&[self.tool, concat!(" ", env!("CARGO_PKG_VERSION"), "\n")])?;
                }
                "--trace" => self.common.trace(self.parser.optional_value().as_deref())?,
                "--dry-run" => self.common.handed.dry = true,
                "--ready" => self.value().and_then(|fd| self.common.ready(&fd))?,
                "--signal-mask" => self.word().and_then(|set| self.common.signal_mask(&set))?,
                sys::LOCK => self.value().and_then(|fds| self.common.locks(&fds))?,
                sys::PARENT => self.value().and_then(|fd| self.common.parent(&fd))?,
                sys::HINT => self.common.handed.hint = Some(Box::leak(self.path()?.into())),
                sys::SEALED => {
                    let path = self.optional().unwrap_or_default();
                    self.common.handed.sealed = Some(path.into_vec().leak());
                }
                _ => return Ok(Some(option)),
            }
        }
        Ok(None)
    }

    /// The next option, also one of those that every tool has.
    fn next(&mut self) -> Result<Option<String>, lexopt::Error> {
        if let Some(next) = self.ahead.take() {
            return next;
        }
        let ends = self.next_is_dashes();
        Ok(match self.parser.next()? {
            Some(Arg::Short(letter)) => Some(String::from_iter(['-', letter])),
            Some(Arg::Long(word)) => Some(["--", word].concat()),
            Some(Arg::Value(value)) => {
                self.operand = Some(value);
                self.behind_dashes = ends;
                None
            }
            None => None,
        })
    }

    /// Is the next word `--`, and not the value of an option?
    fn next_is_dashes(&mut self) -> bool {
        let rest = self.parser.try_raw_args();
        rest.is_some_and(|rest| rest.as_slice().first().is_some_and(|word| word == "--"))
    }

    /// Print what was asked for, and end; but not for `--help=x`, which is not an option.
    fn print(&mut self, text: &[&str]) -> Result<(), Error> {
        if let Some(value) = self.parser.optional_value() {
            return Err(
                self.usage(format_args!("{}: this option takes no value", plain(value.as_bytes())))
            );
        }
        sys::print(&text.concat());
        sys::exit_now(0)
    }

    /// The value that the last option must have.
    pub fn value(&mut self) -> Result<OsString, Error> {
        self.parser.value().map_err(|e| misread(self.tool, e))
    }

    /// The value of the last option, as a path or another string for the kernel.
    pub fn path(&mut self) -> Result<CString, Error> {
        self.value().map(|value| cstring(value.into_vec()))
    }

    /// The value of the last option as text; what is not UTF-8 is not a word that a tool knows.
    pub fn word(&mut self) -> Result<Word, Error> {
        self.value().map(|value| Word(value.to_string_lossy().into_owned()))
    }

    /// The number of a descriptor, which the caller has opened.
    pub fn fd(&mut self) -> Result<RawFd, Error> {
        let value = self.value()?;
        self.common.fd(&value)
    }

    /// The value of the last option where it was written `--option=VALUE`.
    pub fn optional(&mut self) -> Option<OsString> {
        self.parser.optional_value()
    }

    /// The optional value as a time, of seconds with or without a fraction, up to 292 years, in nanoseconds.
    pub fn optional_nanoseconds(&mut self) -> Result<Option<i64>, Error> {
        self.optional().map(|seconds| self.nanoseconds(&seconds)).transpose()
    }

    /// A number of seconds in nanoseconds.
    pub fn nanoseconds(&self, seconds: &OsStr) -> Result<i64, Error> {
        let number = fixed(seconds.as_bytes(), 9).and_then(|n| i64::try_from(n).ok());
        let typed = || plain(seconds.as_bytes());
        number.ok_or_else(|| self.usage(format_args!("{}: not a number of seconds", typed())))
    }

    /// The optional value as a path, for options whose letters may stand together: in `-mn` the `n` is an option and
    /// no value of `-m`, in `-mn=FILE` it has one. Only reading on shows which.
    pub fn optional_path(&mut self) -> Option<CString> {
        match self.next() {
            Err(lexopt::Error::UnexpectedValue { value, .. }) => Some(cstring(value.into_vec())),
            next => {
                self.ahead = Some(next);
                None
            }
        }
    }

    /// The first operand, after the last option, as a path.
    pub fn operand(&mut self, name: &str) -> Result<CString, Error> {
        match self.operand.take().or_else(|| self.parser.raw_args().ok()?.next()) {
            Some(value) => {
                self.behind_dashes = self.next_is_dashes();
                if self.behind_dashes {
                    self.parser.raw_args().ok().and_then(|mut rest| rest.next());
                }
                Ok(cstring(value.into_vec()))
            }
            None => Err(self.usage(format_args!("{name} is missing"))),
        }
    }

    /// PROG and its arguments, which must be there.
    pub fn prog(&mut self) -> Result<Prog, Error> {
        self.optional_prog().ok_or_else(|| self.usage("PROG is missing"))
    }

    /// PROG and its arguments, for a tool that does not require them.
    pub fn optional_prog(&mut self) -> Option<Prog> {
        let left =
            self.parser.raw_args().ok()?.count() + usize::from(self.operand.take().is_some());
        let prog = Prog::new(self.args.get(self.args.len().checked_sub(left)?..)?)?;
        Some(Prog { behind_dashes: self.behind_dashes, ..prog })
    }

    /// There is no such option; `others` has what to use in its place.
    pub fn unknown(&self, option: &str, others: Others) -> Error {
        let what = plain(option.as_bytes()) + ": no such option";
        match others::on(others, option) {
            Some(way) => Error::refusal(what).way_out(way),
            None => self.usage(what),
        }
    }

    /// The command line is wrong.
    pub fn usage(&self, what: impl Words) -> Error {
        usage(self.tool, what)
    }
}

/// An error of lexopt, in our own words: lexopt prints values by `Debug`, which needs much code.
fn misread(tool: &str, error: lexopt::Error) -> Error {
    use lexopt::Error::{MissingValue, UnexpectedValue};
    match error {
        MissingValue { option } => {
            usage(tool, format_args!("{}: this option needs a value", option.unwrap_or_default()))
        }
        UnexpectedValue { option, value } => {
            let value = plain(value.as_bytes());
            usage(tool, format_args!("{option}={value}: this option takes no value"))
        }
        _ => usage(tool, "an option is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::say::show::ascii;

    #[test]
    fn a_letter_in_a_cluster_has_a_value_only_behind_an_equals_sign() {
        for (line, expected) in [
            ("-mpn PROG", "-m -p -n PROG"),
            ("-mn=FILE -p PROG -m", "-m -n=FILE -p PROG -m"),
            ("--net=FILE --net PROG", "--net=FILE --net PROG"),
            ("--net= -n= -- -m", "--net= -n= -m"),
            ("-n --trace=2 PROG", "-n PROG"),
            ("-mn", "-m -n"),
        ] {
            let args: Vec<_> = ["x"].into_iter().chain(line.split(' ')).map(cstring).collect();
            let mut cli = Cli::new("x", "", args.leak(), Handed::NOTHING);
            let mut read = Vec::new();
            while let Some(option) = cli.option().expect("every option is one") {
                let value = cli.optional_path().map(|value| ascii(value.to_bytes()));
                read.push(value.map_or(option.clone(), |value| option + "=" + &value));
            }
            let operand = cli.operand.take();
            let rest = operand.into_iter().chain(cli.parser.raw_args().into_iter().flatten());
            read.extend(rest.map(|word| ascii(word.as_bytes())));
            assert_eq!(read.join(" "), expected, "{line}");
        }
    }
}
