//! Why seccomp(2) does not accept a program: checked after the failure.

use syscalls::Errno;

use crate::ids::caps::CAP_SYS_ADMIN;
use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show::number;
use crate::say::text::lines;
use crate::sys::{self, Cx};

/// Instructions of all loaded programs together, each counted with 4 more: MAX_INSNS_PER_PATH of kernel/seccomp.c.
const MOST: usize = 32768;

/// Why a program of so many instructions was not loaded.
pub fn why(cx: &Cx, length: usize, error: Error) -> Error {
    let _looking = cx.looking();
    match error.errno() {
        Some(Errno::EACCES) if !may(cx) => error
            .because("this process has neither no_new_privs nor CAP_SYS_ADMIN")
            .way_out("add --no-new-privs"),
        Some(Errno::ENOSYS | Errno::EINVAL) if field(cx, b"Seccomp:") == Field::Missing => {
            error.because("this kernel does not support seccomp filters (CONFIG_SECCOMP_FILTER)")
        }
        Some(Errno::EINVAL) => {
            let length = number(length as u64);
            error.because(format_args!("the compiled policy of {length} instructions is not valid"))
        }
        Some(Errno::ENOMEM) => match field(cx, b"Seccomp_filters:") {
            Field::Number(loaded) if loaded > 0 => error.because(format_args!(
                "{} policies are already loaded; together they may have at most {MOST} instructions",
                number(loaded)
            )),
            _ => error,
        },
        _ => error,
    }
}

/// Does this process meet the precondition of seccomp(2)?
fn may(cx: &Cx) -> bool {
    let admin = sys::capget(cx).is_ok_and(|own| own.effective() >> CAP_SYS_ADMIN & 1 == 1);
    admin || sys::prctl_get_no_new_privs(cx).unwrap_or(true)
}

/// What `/proc/self/status` says.
#[derive(PartialEq)]
enum Field {
    Number(u64),
    /// There is such a file, and no such line.
    Missing,
    Unknown,
}

fn field(cx: &Cx, name: &[u8]) -> Field {
    let Ok(status) = sys::read_file(cx, None, c"/proc/self/status") else { return Field::Unknown };
    let value = lines(&status).find_map(|line| line.strip_prefix(name));
    match value.map(|value| decimal(value.trim_ascii())) {
        None => Field::Missing,
        Some(Some(n)) => Field::Number(n),
        Some(None) => Field::Unknown,
    }
}
