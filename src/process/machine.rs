//! Process 1 of a machine, which never ends by itself.
//! How signals are passed on is in [`crate::process::signals`].

use std::ffi::CString;

use libc::{LINUX_REBOOT_CMD_HALT, LINUX_REBOOT_CMD_POWER_OFF, LINUX_REBOOT_CMD_RESTART};
use syscalls::Errno;

use crate::cgroup::memberships::Memberships;
use crate::cli::Cli;
use crate::ids::caps::{self, CAP_SYS_BOOT};
use crate::process::child::{self, Caller, Side};
use crate::process::process_1;
use crate::process::signals::{Child, Ways};
use crate::process::wait;
use crate::root::mountinfo;
use crate::say::error::Error;
use crate::say::show;
use crate::sys::structs::{SECOND, WaitStatus};
use crate::sys::{self, Cx, cstring};

/// What process 1 of a machine does when PROG has ended.
#[derive(Clone, Copy, PartialEq)]
pub enum OnExit {
    Poweroff,
    Reboot,
    Halt,
    /// Start it again.
    Respawn,
}

impl OnExit {
    /// The value of `--on-exit`.
    pub fn parse(cli: &mut Cli) -> Result<OnExit, Error> {
        let word = cli.word()?;
        match &*word {
            "poweroff" => Ok(OnExit::Poweroff),
            "reboot" => Ok(OnExit::Reboot),
            "halt" => Ok(OnExit::Halt),
            "respawn" => Ok(OnExit::Respawn),
            _ => Err(cli.usage(format_args!(
                "--on-exit {word}: must be poweroff, reboot, halt or respawn"
            ))),
        }
    }
}

/// Be process 1 of a machine, or of a pid namespace, and never return but in a child, which is to become
/// PROG: whatever fails there is how that ended. The one refusal is that of another process.
pub fn continue_in_child(cx: &Cx, on_exit: OnExit, ways: Ways) -> Result<(), Error> {
    let pid = sys::getpid(cx)?;
    if pid != 1 && !cx.dry() {
        let pid = show::number(pid as u64);
        let what = format!("--on-exit needs process 1, but this is process {pid}");
        return Err(Error::refusal(what)
            .way_out("start it as process 1: by the kernel, or by td-unshare --pid"));
    }
    let machine = Machine::new(cx, on_exit, ways);
    let caller = loop {
        match process_1::hide(cx).and_then(|()| Caller::new(cx)) {
            Ok(caller) => break caller,
            Err(error) if cx.dry() => return Err(error),
            Err(error) => machine.after_prog(cx, Err(error)),
        }
    };
    // The next child reports how PROG ended: this process never frees memory, and there may be many ends.
    let mut before = None;
    loop {
        let ended = match child::spawn_for(cx, &caller, 0, &mut Memberships::default()) {
            Ok(Side::Child) => {
                before.iter().for_each(|ended| say_end(cx, *ended, "; restarting it"));
                return Ok(());
            }
            Ok(Side::Parent(child, _)) => {
                machine.wait(cx, child).inspect_err(|_| drop(wait::kill(cx, child)))
            }
            Err(error) if cx.dry() => return Err(error),
            Err(error) => Err(error),
        };
        before = ended.as_ref().ok().copied();
        machine.after_prog(cx, ended);
    }
}

struct Machine {
    on_exit: OnExit,
    ways: Ways,
    /// Is it more than a pid namespace? Then the file systems are ours as well.
    is_machine: bool,
    /// Does Ctrl-Alt-Del come to us?
    ctrl_alt_del: bool,
}

impl Machine {
    fn new(cx: &Cx, on_exit: OnExit, ways: Ways) -> Machine {
        // Without it the kernel restarts at once, and what is not yet on a device is lost.
        let is_machine = match sys::reboot_cad_off(cx) {
            Err(e) if e.is(Errno::EINVAL) => false,
            other => {
                other.map_err(|e| caps::why(cx, CAP_SYS_BOOT, e)).inspect_err(|e| cx.say(e)).is_ok()
            }
        };
        // The same signal comes from a terminal that controls our session: we have none in a new one.
        // EPERM: we lead one already.
        let ctrl_alt_del = is_machine && sys::setsid(cx).is_ok();
        Machine { on_exit, ways, is_machine, ctrl_alt_del }
    }

    /// Wait until PROG has ended; or until Ctrl-Alt-Del ends all.
    fn wait(&self, cx: &Cx, child: i32) -> Result<WaitStatus, Error> {
        let child = Child::with(child, Some(false), self.ways);
        loop {
            let signal = wait::next_signal(cx)?;
            let from_kernel = signal.code == libc::SI_KERNEL;
            if self.ctrl_alt_del && from_kernel && signal.signo == libc::SIGINT {
                cx.say(&Error::refusal("Ctrl-Alt-Del: the machine is restarted"));
                self.end(cx, LINUX_REBOOT_CMD_RESTART);
            }
            if let Some(ended) = wait::handle(cx, &child, &signal)? {
                return Ok(ended);
            }
        }
    }

    /// PROG has ended, or something failed on our side: do what is to be done then. Returns where that is
    /// to start it, after a second.
    fn after_prog(&self, cx: &Cx, ended: Result<WaitStatus, Error>) {
        let again = self.on_exit == OnExit::Respawn;
        match ended {
            Ok(ended) if ended.0 != 0 && !again => say_end(cx, ended, ""),
            Ok(_) => {}
            Err(error) => cx.say(&error),
        }
        match self.on_exit {
            OnExit::Poweroff => self.end(cx, LINUX_REBOOT_CMD_POWER_OFF),
            OnExit::Reboot => self.end(cx, LINUX_REBOOT_CMD_RESTART),
            OnExit::Halt => self.end(cx, LINUX_REBOOT_CMD_HALT),
            // A PROG that ends at once shall not keep the machine busy.
            OnExit::Respawn => drop(sys::sleep(cx, SECOND)),
        }
    }

    /// End all processes, then the machine. What fails is reported, and hinders nothing that comes after it.
    fn end(&self, cx: &Cx, command: i32) -> ! {
        let say = |done: Result<(), Error>| done.unwrap_or_else(|error| cx.say(&error));
        say(end_all(cx, libc::SIGTERM));
        say(end_all(cx, libc::SIGKILL));
        say(sys::sync(cx));
        if self.is_machine {
            say(make_read_only(cx));
            // A child calls it: if the machine does not stop, the kernel ends the caller (kernel/reboot.c), and panics
            // if that is process 1.
            let asked = child::run_helper(
                cx,
                0,
                Box::new(|side| match side {
                    Side::Child => reboot(cx, command),
                    Side::Parent(..) => Ok(()),
                }),
            );
            say(asked.map(drop));
        } else {
            say(reboot(cx, command));
        }
        cx.say(&Error::refusal("reboot(2) did not stop this machine: process 1 waits forever"));
        loop {
            let _ = sys::sleep(cx, i64::MAX);
        }
    }
}

fn say_end(cx: &Cx, ended: WaitStatus, and: &str) {
    let how = if libc::WIFSIGNALED(ended.0) {
        ["was killed by ", show::signal(libc::WTERMSIG(ended.0))].concat()
    } else {
        ["has ended with exit status ", &show::number(ended.exit_status().into())].concat()
    };
    cx.say(&Error::refusal(format_args!("PROG {how}{and}")));
}

fn reboot(cx: &Cx, command: i32) -> Result<(), Error> {
    sys::reboot(cx, command).map_err(|e| caps::why(cx, CAP_SYS_BOOT, e))
}

/// Send all other processes a signal, and reap them. They have some two seconds for it.
fn end_all(cx: &Cx, signal: i32) -> Result<(), Error> {
    match sys::kill(cx, -1, signal) {
        Err(e) if e.is(Errno::ESRCH) => return Ok(()), // there is none
        other => other?,
    }
    for _ in 0..100 {
        loop {
            match sys::wait4(cx, -1, libc::WNOHANG) {
                Ok((0, _)) => break,
                Ok(_) => {}
                // Whose parent has ended is our child: there is none left.
                Err(e) if e.is(Errno::ECHILD) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        sys::sleep(cx, SECOND / 50)?;
    }
    Ok(())
}

/// Make file systems on block devices read-only, the last mounted first. Other file systems have no state to lose, or
/// (such as btrfs) are as safe after sync(2).
fn make_read_only(cx: &Cx) -> Result<(), Error> {
    let mut done = Ok(());
    let points = match mountinfo::list(cx, c"/proc/self/mountinfo") {
        Ok(mounts) => {
            let writable = mounts.into_iter().filter(|m| m.super_options.starts_with(b"rw"));
            writable.map(|mount| cstring(mount.point)).collect()
        }
        // Without /proc the root file system alone. So it is where its mounts cannot be read, but that is reported.
        Err(error) => {
            done = if error.is(Errno::ENOENT) { Ok(()) } else { Err(error) };
            vec![CString::from(c"/")]
        }
    };
    let flags = libc::MS_REMOUNT | libc::MS_RDONLY;
    for point in points.iter().rev() {
        done = done.and(match sys::statx(cx, None, point, 0) {
            Ok(stat) if stat.dev_major == 0 => Ok(()), // not on a device
            Ok(_) => sys::mount(cx, None, point, None, flags, None),
            Err(e) if e.is(Errno::ENOENT) || e.is(Errno::ENOTDIR) => Ok(()), // another mount covers it
            Err(error) => Err(error),
        });
    }
    done
}
