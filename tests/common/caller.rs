//! What the tests have of their caller, made the same for each: no test passes or fails for who started it, or from
//! where.

use std::sync::Once;

use super::check;

/// The variables that stay: where things are, and what cargo, the toolchain and the tests themselves are told.
const KEPT: [&str; 8] =
    ["PATH", "HOME", "TMPDIR", "CI", "APT_CONFIG", "LD_LIBRARY_PATH", "TD_BIN", "TD_SHELL"];
const KEPT_BEGINNINGS: [&str; 4] = ["CARGO", "RUST", "SSL_CERT", "DEB"];

/// The limits, where they may be set: of a user no limit is raised.
const LIMITS: [(libc::__rlimit_resource_t, u64); 9] = [
    (libc::RLIMIT_NOFILE, 1024),
    (libc::RLIMIT_CORE, 0),
    (libc::RLIMIT_STACK, 8 << 20),
    (libc::RLIMIT_FSIZE, libc::RLIM_INFINITY),
    (libc::RLIMIT_CPU, libc::RLIM_INFINITY),
    (libc::RLIMIT_AS, libc::RLIM_INFINITY),
    (libc::RLIMIT_DATA, libc::RLIM_INFINITY),
    (libc::RLIMIT_MEMLOCK, 8 << 20),
    (libc::RLIMIT_NPROC, 1 << 16),
];

/// From here on this process, and what it starts, has nothing of its caller's that a test might notice: signals that
/// are ignored (nohup(1) ignores SIGHUP, and a shell SIGINT and SIGQUIT of what it does not wait for), a mode mask,
/// limits, open descriptors, supplementary groups, and variables, above all those of the locale.
pub fn as_usual() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        signals();
        // SAFETY: numbers.
        unsafe {
            libc::umask(0o022);
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        }
        LIMITS.iter().for_each(|(resource, value)| limit(*resource, *value));
        // SAFETY: no groups, of every thread of this process. A user who is not root keeps the groups.
        unsafe { libc::setgroups(0, std::ptr::null()) };
        variables();
    });
}

/// As they are by default, but for SIGPIPE, which std ignores, and sets right in what it starts. (What it starts has
/// none blocked.)
fn signals() {
    for signal in (1..=64).filter(|signal| *signal != libc::SIGPIPE) {
        // SAFETY: numbers. Of SIGKILL, SIGSTOP and those of the C library it is refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// The soft limit, and the hard one where that is lower.
fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: room for two numbers.
    check(unsafe { libc::getrlimit(resource, &mut limits) }).expect("a limit");
    let wanted = libc::rlimit { rlim_cur: value, rlim_max: limits.rlim_max.max(value) };
    let allowed = libc::rlimit { rlim_cur: value.min(limits.rlim_max), ..limits };
    // SAFETY: two numbers each.
    unsafe {
        if libc::setrlimit(resource, &wanted) != 0 {
            libc::setrlimit(resource, &allowed);
        }
    }
}

fn variables() {
    let is_kept = |name: &str| {
        KEPT.contains(&name)
            || KEPT_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
            || name.to_ascii_lowercase().ends_with("_proxy")
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| !name.to_str().is_some_and(is_kept)) {
        // SAFETY: what other threads read of the environment they read by std, which has a lock for that.
        unsafe { std::env::remove_var(name) };
    }
    // SAFETY: see above.
    unsafe { std::env::set_var("LC_ALL", "C") };
}
