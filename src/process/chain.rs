//! A chain: one step after the other, in one process if possible.

use std::ffi::{CString, c_int};

use crate::cli::Cli;
use crate::process::explain;
use crate::process::prog::Next;
use crate::say::error::{Error, FAILED};
use crate::say::show::plain;
use crate::sys::{self, Cx, Handed, Start, cstring};

/// The entry of a program: C's `main`, and its allocator. `program!(pivot)` is a program of one tool; `program!(exec:
/// init, tty::inner)` is td-exec, which contains td-init and a part of td-tty too; `program!(: pivot, exec)` is a
/// program of several tools, in which its name selects the tool.
///
/// Rust's own start-up would ignore SIGPIPE for PROG as well, make some 20 calls, and double what a
/// step costs; and it panics where a standard stream is closed.
#[macro_export]
macro_rules! program {
    ($tool:ident) => {
        $crate::entry!(|start| $crate::process::chain::run_one(start, &$crate::tools::$tool::TOOL));
    };
    ($first:ident: $($tool:ident $(::$part:ident)?),*) => {
        $crate::entry!(|start| {
            const TOOLS: &[$crate::process::chain::Tool] =
                &[$crate::tools::$first::TOOL, $($crate::tools::$tool$(::$part)?::TOOL),*];
            $crate::process::chain::run(start, TOOLS, TOOLS.first())
        });
    };
    (: $($tool:ident),*) => {
        $crate::entry!(|start| {
            const TOOLS: &[$crate::process::chain::Tool] = &[$($crate::tools::$tool::TOOL),*];
            $crate::process::chain::run(start, TOOLS, None)
        });
    };
}

/// A tool, by its name: what it does with a command line, and what comes next.
pub struct Tool {
    /// `td-x`.
    pub name: &'static str,
    /// Its step.
    pub step: fn(&Cx, &'static [CString]) -> Result<Next, Error>,
}

/// One step: read the command line, and do what it asks for.
pub fn step<O>(
    cx: &Cx,
    (tool, help): (&'static str, &'static str),
    args: &'static [CString],
    parse: fn(&mut Cli) -> Result<O, Error>,
    apply: fn(&Cx, &O) -> Result<Next, Error>,
) -> Result<Next, Error> {
    cx.end_step(); // that of the tool before
    let mut cli = Cli::new(tool, help, args, *cx.handed());
    let parsed = parse(&mut cli);
    cx.begin(tool, args, cli.common.handed, &cli.common.checked);
    let options = parsed?;
    // To be sealed, a tool executes itself again.
    if cx.sealed().is_none_or(<[u8]>::is_empty) && !cx.has_name_of(tool) {
        // A process has the name of its tool, as execve(2) of a program of its own would set it. Only ps(1) shows it.
        let _ = sys::prctl_set_name(cx, &cstring(tool));
    }
    apply(cx, &options)
}

/// A program of one tool, from its start to its end.
pub fn run_one(start: &'static Start, tool: &Tool) -> c_int {
    let cx = Cx::new(start, &[]);
    end(&cx, (tool.step)(&cx, &start.args))
}

/// End as a step has asked for, or failed.
fn end(cx: &Cx, result: Result<Next, Error>) -> ! {
    let status = match result {
        Ok(Next::End(status)) => status,
        Ok(Next::Step(tool, _)) => {
            cx.say(&Error::refusal([tool, ": this program does not contain that tool"].concat()));
            FAILED
        }
        Err(error) => {
            let error = explain::explained(cx, error);
            cx.say(&error);
            error.status()
        }
    };
    sys::exit(cx, status)
}

/// Run a program that has these tools, from its start to its end. The tool is selected by the program's name, else it
/// is `usual`, else the first word selects it. The descriptors of a step are closed when it returns, as execve(2) would
/// close them.
pub fn run(start: &'static Start, tools: &[Tool], usual: Option<&Tool>) -> c_int {
    let names: &[&str] = tools.iter().map(|tool| tool.name).collect::<Vec<_>>().leak();
    let cx = Cx::new(start, names);
    if usual.is_none() {
        cx.begin("td", &[], Handed::NOTHING, &[]);
    }
    let (mut name, mut args) = first(start, names, usual);
    loop {
        let Some(tool) = tools.iter().find(|tool| tool.name == name) else {
            return no_tool(&cx, args);
        };
        match (tool.step)(&cx, args) {
            Ok(Next::Step(next, line)) => (name, args) = (next, line),
            other => end(&cx, other),
        }
    }
}

/// The first tool, and its command line.
fn first(
    start: &'static Start,
    names: &'static [&'static str],
    usual: Option<&Tool>,
) -> (&'static str, &'static [CString]) {
    let args = &start.args[..];
    let of = |name: &[u8]| names.iter().find(|known| known.as_bytes() == name).copied();
    match (start.name_of(names), usual) {
        ("", None) => {
            let rest = args.get(1..).unwrap_or_default();
            let word = rest.first().map(|word| word.to_bytes()).unwrap_or_default();
            (of(word).or_else(|| of(&[b"td-", word].concat())).unwrap_or_default(), rest)
        }
        ("", Some(usual)) => (usual.name, args),
        (tool, _) => (tool, args),
    }
}

const HELP: &str = "\
usage: td TOOL [OPTION]... [OPERAND]... PROG [ARG]...

Do the step of TOOL, which is one step of running a container, then become PROG.
If PROG is a tool, its step follows in the same process, without an execve(2)
wherever that makes no difference.

";

/// `td` called without a known tool: --help, --version, or a mistake.
fn no_tool(cx: &Cx, args: &[CString]) -> c_int {
    let word = args.first().map(|word| word.to_bytes()).unwrap_or_default();
    match word {
        b"--help" => {
            let tools: Vec<String> =
                cx.tools.iter().map(|tool| ["  ", tool, "\n"].concat()).collect();
            sys::print(
                &[
                    HELP,
                    &tools.concat(),
                    "\nEach tool has a manual and a help text: td TOOL --help\n",
                ]
                .concat(),
            );
            0
        }
        b"--version" => {
            sys::print(concat!("td ", env!("CARGO_PKG_VERSION"), "\n"));
            0
        }
        _ => {
            let what = if word.is_empty() {
                "TOOL is missing".into()
            } else {
                plain(word) + ": not a tool"
            };
            cx.say(&Error::refusal(what).way_out("see td --help"));
            FAILED.into()
        }
    }
}
