//! What runs inside of all that is measured: a static `true`. With an argument it is something else:
//!
//! - `probe`: say what a program sees here, a line each, and end with 42;
//! - `eat`: use 96 MiB of memory, more than the limit that was asked for;
//! - `wait`: say `R`, and wait until nobody reads what it says.
#![no_main]
#![deny(unsafe_code)]

use std::ffi::c_int;

use td::say::error::Error;
use td::say::show;
use td::say::text::{lines, split};
use td::sys::{self, Cx, Start, proc};

td::entry!(|start| run(start));

fn run(start: &'static Start) -> c_int {
    let Some(what) = start.args.get(1) else { return 0 };
    let cx = Cx::new(start, &[]);
    let done = match what.to_bytes() {
        b"probe" => probe(&cx).map(|()| 42),
        b"eat" => Ok(eat()),
        b"wait" => wait(&cx),
        _ => Ok(0),
    };
    done.unwrap_or_else(|error| {
        cx.say(&error);
        error.status().into()
    })
}

fn probe(cx: &Cx) -> Result<(), Error> {
    let mut said = format!("pid {}\n", sys::getpid(cx)?);
    for (key, field) in [("seccomp", "Seccomp:\t"), ("nnp", "NoNewPrivs:\t"), ("caps", "CapBnd:\t")]
    {
        let value = proc::status(cx, field.as_bytes()).unwrap_or_default();
        said += &format!("{key} {}\n", show::plain(&value));
    }
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let link = proc::path(&["/proc/self/ns/", kind]);
        said += &format!("ns {}\n", show::plain(&sys::readlinkat(cx, None, &link)?));
    }
    let mounts = sys::read_file(cx, None, c"/proc/self/mountinfo")?;
    for line in lines(&mounts) {
        let fields: Vec<_> = split(line, b' ').collect();
        let kind = fields.iter().position(|field| *field == b"-").and_then(|at| fields.get(at + 1));
        let target = fields.get(4).copied().unwrap_or_default();
        said +=
            &format!("mount {} {}\n", show::plain(target), show::plain(kind.unwrap_or(&&b""[..])));
    }
    sys::print(&said);
    Ok(())
}

fn eat() -> c_int {
    let memory = vec![1_u8; 96 << 20];
    c_int::from(memory.iter().step_by(4096).any(|byte| *byte != 1))
}

/// Until the reader is gone: so nothing is left of what is measured when that is interrupted.
fn wait(cx: &Cx) -> Result<c_int, Error> {
    sys::print("R");
    sys::ppoll(cx, sys::standard_fd(1), 0, None).map(|_| 0)
}
