//! The waiting parent of td-unshare, which enters no namespace: what it does outside before its child becomes PROG, and
//! when that has ended. It maps ids, keeps namespaces in files, writes pid files, waits, reports what memory has run
//! out, and removes cgroups and directories. How signals are passed on is in [`crate::process::signals`].

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use crate::cgroup::child_cgroups::{self, ChildCgroups};
use crate::cgroup::memberships::Memberships;
use crate::cgroup::oom::Killed;
use crate::cli::{Cli, Prog};
use crate::ids::id_maps::IdMaps;
use crate::process::map_child_ids::{self, Remove};
use crate::process::namespaces;
use crate::process::pid_file;
use crate::process::prog::Next;
use crate::process::ready::Ran;
use crate::process::signals::Child;
use crate::process::socket_pair::SocketPair;
use crate::process::wait;
use crate::root::directories::{self, Place};
use crate::root::remove;
use crate::root::temporary_file::TemporaryFile;
use crate::say::error::{Error, FAILED};
use crate::say::number::int;
use crate::say::show::{plain, size};
use crate::say::text;
use crate::sys::structs::WaitStatus;
use crate::sys::{self, Cx, cstring};

/// The options of td-unshare that the waiting parent carries out.
#[derive(Default)]
pub struct ParentOptions {
    /// Namespaces (CLONE_NEW*) that are kept in a file.
    pub pins: Vec<(u64, CString)>,
    cgroups: child_cgroups::Asked,
    pid_files: Vec<CString>,
    /// A descriptor of PROG, and the file that it is.
    record: Option<(RawFd, CString)>,
    remove: Vec<CString>,
    rmdir: Vec<CString>,
    fresh: bool,
    /// No link is followed below it.
    state: Option<CString>,
}

impl ParentOptions {
    /// Read the option, if it is one of those. Returns whether it is.
    pub fn option(&mut self, cli: &mut Cli, option: &str) -> Result<bool, Error> {
        match option {
            "--into-cgroup" => self.cgroups.into = Some(cli.path()?),
            "--remove-cgroup" => self.cgroups.remove = Some(cli.path()?),
            "--cgroup-record" => self.cgroups.record = Some(named(cli, option)?),
            "--pid-file" => self.pid_files.push(named(cli, option)?),
            "--record" => self.record = Some(record(cli)?),
            "--remove" => self.remove.push(named(cli, option)?),
            "--rmdir" => self.rmdir.push(named(cli, option)?),
            "--fresh" => self.fresh = true,
            "--state" => self.state = Some(cli.path()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What does not go together.
    pub fn check(&self, cli: &Cli) -> Result<(), Error> {
        let child_cgroups::Asked { into, remove, record } = &self.cgroups;
        if record.is_some() && (into.is_some() || remove.is_some()) {
            return Err(cli.usage(
                "--cgroup-record cannot be combined with --into-cgroup or --remove-cgroup",
            ));
        }
        let paths = self.remove.iter().chain(&self.rmdir).chain(record);
        let mut paths = paths.chain(self.record.iter().map(|(_, file)| file));
        let is_elsewhere =
            |path: &&CString| self.state().is_some_and(|state| !directories::is_below(path, state));
        paths.find(is_elsewhere).map_or(Ok(()), |path| {
            let path = plain(path.to_bytes());
            Err(cli.usage(format_args!("{path}: not below the directory of --state")))
        })
    }

    /// Is there anything to do outside, so that a child becomes PROG?
    pub fn needs_parent(&self, maps: &IdMaps) -> bool {
        let child_cgroups::Asked { into, remove, record } = &self.cgroups;
        into.is_some()
            || remove.is_some()
            || record.is_some()
            || self.record.is_some()
            || !self.remove.is_empty()
            || !self.rmdir.is_empty()
            || self.needs_parent_before_prog(Some(maps))
    }

    /// Is some of that done when the child exists, and has not become PROG yet?
    fn needs_parent_before_prog(&self, maps: Option<&IdMaps>) -> bool {
        maps.is_some_and(IdMaps::need_parent) || !self.pins.is_empty() || !self.pid_files.is_empty()
    }

    fn state(&self) -> Option<&CStr> {
        self.state.as_deref()
    }
}

/// `N:FILE`.
fn record(cli: &mut Cli) -> Result<(RawFd, CString), Error> {
    let typed = cli.path()?;
    let parts = text::pair(typed.to_bytes(), b':');
    let parts = parts.and_then(|(n, file)| Some((int(n)?, remove::named(&cstring(file))?)));
    parts.filter(|(fd, _)| *fd > 2).ok_or_else(|| {
        let typed = plain(typed.to_bytes());
        cli.usage(format_args!("--record {typed}: must be N:FILE, with a descriptor N above 2"))
    })
}

fn named(cli: &mut Cli, option: &str) -> Result<CString, Error> {
    let typed = cli.path()?;
    remove::named(&typed).ok_or_else(|| {
        let typed = plain(typed.to_bytes());
        cli.usage(format_args!("{option} {typed}: must end in a name other than . and .."))
    })
}

/// The memory that is enough for td's steps between the clone and PROG, in bytes: they need a quarter of it.
const ENOUGH: u64 = 2 << 20;

/// What the parent has created outside of the new namespaces, and how the child ended.
pub struct WaitingParent<'a> {
    asked: &'a ParentOptions,
    prog: Prog,
    cgroups: ChildCgroups<'a>,
    /// Those of the new user namespace, if there is one.
    maps: Option<&'a IdMaps>,
    pid_files: Vec<TemporaryFile>,
    /// Files with a namespace each, and whether they were created.
    pins: Vec<(&'a CStr, bool)>,
    /// The child has not become PROG.
    failed: bool,
    /// PROG, which may come after other tools, was executed.
    ran: bool,
    /// The exit status of the child.
    status: u8,
}

impl<'a> WaitingParent<'a> {
    /// Wait until the processes that a killed run has left have ended, and refuse a path that could not be removed at
    /// the end, before anything is changed.
    pub fn new(cx: &Cx, asked: &'a ParentOptions, prog: Prog) -> Result<WaitingParent<'a>, Error> {
        let parent = WaitingParent {
            asked,
            prog,
            cgroups: ChildCgroups::read(cx, &asked.cgroups, asked.state())?,
            maps: None,
            pid_files: Vec::new(),
            pins: Vec::new(),
            failed: false,
            ran: false,
            status: 0,
        };
        parent.check(cx).inspect_err(|_| parent.remove_cgroups(cx))?;
        Ok(parent)
    }

    fn check(&self, cx: &Cx) -> Result<(), Error> {
        let ParentOptions { pid_files, remove, rmdir, .. } = self.asked;
        // Until that process has ended, the directories are still in use.
        pid_files.iter().try_for_each(|path| pid_file::await_end(cx, self.asked.state(), path))?;
        // Others must not be able to change the way to what is removed.
        let mut removed = remove.iter().chain(rmdir);
        removed.try_for_each(|path| Place::find(cx, self.asked.state(), path).map(drop))
    }

    /// Before the clone: remove what a killed run has left, and create and open what the clone needs. The sockets are
    /// for what is done when the child exists, if anything is. `maps` are those of a new user namespace.
    pub fn prepare(
        &mut self,
        cx: &Cx,
        maps: Option<&'a IdMaps>,
    ) -> Result<(Memberships, Option<SocketPair>), Error> {
        let ParentOptions { record, pid_files, remove, fresh, .. } = self.asked;
        self.maps = maps;
        for path in remove.iter().filter(|_| *fresh) {
            self.remove(cx, path, remove::remove_tree)?;
        }
        // First, as long as nothing of ours can have its number.
        if let Some((fd, file)) = record {
            pid_file::record(cx, self.asked.state(), *fd, file)?;
        }
        for path in pid_files {
            self.pid_files.push(TemporaryFile::new(cx, self.asked.state(), path)?);
        }
        let cgroups = self.cgroups.open(cx)?;
        let needs_sockets = self.asked.needs_parent_before_prog(maps);
        Ok((cgroups, needs_sockets.then(|| SocketPair::new(cx)).transpose()?))
    }

    /// Why there is no child, which was to have these new namespaces (CLONE_NEW*).
    pub fn why_no_child(&self, cx: &Cx, namespaces: u64, error: Error) -> Error {
        let _looking = cx.looking();
        namespaces::why(cx, namespaces, self.cgroups.clone_into().as_deref(), error)
    }

    /// After the clone: do what is done before the child becomes PROG, then wait for its end. Returns the exit status.
    pub fn wait(
        &mut self,
        cx: &Cx,
        child: i32,
        ran: &Ran,
        sockets: Option<SocketPair>,
    ) -> Result<u8, Error> {
        match self.wait_for_end(cx, child, sockets) {
            Ok(ended) => {
                self.ran = ran.prog(cx);
                self.status = ran.exit_status(cx, ended);
                Ok(self.status)
            }
            Err(error) => {
                self.release(cx);
                let Err(lives) = wait::kill(cx, child) else { return Err(error) };
                // What would be cleaned up is in use: the next run does it.
                cx.say(&error);
                cx.say(&lives);
                sys::exit(cx, FAILED);
            }
        }
    }

    fn wait_for_end(
        &mut self,
        cx: &Cx,
        child: i32,
        sockets: Option<SocketPair>,
    ) -> Result<WaitStatus, Error> {
        let part = || self.do_before_prog(cx, child);
        let socket = sockets.map_or(Ok(None), |pair| pair.wait_for_child(cx, child, part))?;
        let release = || self.release(cx);
        let ended = wait::wait_unless_frozen(cx, &Child::new(child, None), &release)?;
        self.failed = socket.is_none_or(|socket| socket.has_failure(cx));
        Ok(ended)
    }

    fn do_before_prog(&mut self, cx: &Cx, child: i32) -> Result<(), Error> {
        self.maps.map_or(Ok(()), |maps| map_child_ids::write_for(cx, maps, child))?;
        for (namespace, file) in &self.asked.pins {
            self.pins.push((file, namespaces::pin(cx, child, *namespace, file)?));
        }
        self.pid_files.iter_mut().try_for_each(|file| pid_file::write(cx, file, child))
    }

    /// A signal was sent that is to end the child, or it is to be killed: let it not be frozen.
    fn release(&self, cx: &Cx) {
        self.cgroups.release(cx).unwrap_or_else(|error| cx.say(&error));
    }

    /// The child has ended, or there is none: clean up, and end as it ended.
    pub fn end(mut self, cx: &Cx, ended: Result<u8, Error>) -> Result<Next, Error> {
        self.failed |= ended.is_err();
        self.clean_up(cx);
        ended.map(Next::End)
    }

    /// A failure to remove something is reported, and has no other effect. If PROG was never executed, remove also what
    /// would outlive PROG.
    pub fn clean_up(&self, cx: &Cx) {
        let say = |result: Result<(), Error>| result.unwrap_or_else(|error| cx.say(&error));
        self.pid_files.iter().for_each(|file| say(file.remove(cx)));
        for &(file, created) in self.pins.iter().filter(|_| self.failed) {
            say(namespaces::unpin(cx, file, created));
        }
        self.say_how_killed(cx);
        self.remove_cgroups(cx);
        let ParentOptions { remove, rmdir, .. } = self.asked;
        remove.iter().for_each(|path| say(self.remove(cx, path, remove::remove_tree)));
        rmdir.iter().for_each(|path| say(self.remove(cx, path, remove::remove_empty)));
        self.pid_files.iter().rev().filter(|_| self.failed).for_each(|file| file.undo(cx));
    }

    /// PROG has failed: was it killed because memory ran out, or a process of it? Checked while the cgroup that counted
    /// it still exists. If PROG ended with 0, it has handled the loss.
    fn say_how_killed(&self, cx: &Cx) {
        const KILLED: u8 = 128 + libc::SIGKILL as u8; // so a shell and td-init end, too
        if self.status == 0 {
            return;
        }
        if let Some(Killed { how, limit }) = self.cgroups.how_killed(cx) {
            let who = match self.status {
                _ if !self.ran => "the process that was to become ",
                KILLED => "",
                _ => "a process of ",
            };
            let said = Error::refusal(format_args!("{who}{} {how}", self.prog.shown()));
            let few = !self.ran && limit.is_some_and(|limit| limit < ENOUGH);
            let enough = [
                "the steps before PROG ran in this cgroup: ",
                &size(ENOUGH),
                " is enough for them",
            ];
            cx.say(&if few { said.way_out(enough.concat()) } else { said });
        }
    }

    fn remove_cgroups(&self, cx: &Cx) {
        self.cgroups.remove(cx).unwrap_or_else(|error| cx.say(&error));
    }

    /// Remove a directory as the caller, or as root of the new user namespace.
    fn remove(&self, cx: &Cx, path: &CStr, how: Remove) -> Result<(), Error> {
        let Some(place) = Place::find(cx, self.asked.state(), path)? else { return Ok(()) };
        match self.maps {
            Some(maps) => map_child_ids::remove(cx, maps, &place, how),
            None => how(cx, &place),
        }
    }
}
