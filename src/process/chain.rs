//! PROG, the rest of the command line: finding it and executing it, also across a change of root.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::cli::{Never, Prog};
use crate::process::descriptors;
use crate::process::executable;
use crate::say::error::{Error, FAILED, NOT_FOUND, why_unreachable};
use crate::say::flags::MFD_EXEC;
use crate::say::show::{number, plain};
use crate::say::text::{split, split_name};
use crate::sys::structs::MountAttr;
use crate::sys::{self, Cx, cstring};

/// The tools. Each is found beside the one that runs it, whatever PATH says.
const TOOLS: [&str; 8] = [
    "td-cgroup",
    "td-unshare",
    "td-overlay",
    "td-mount",
    "td-pivot",
    "td-exec",
    "td-enter",
    "td-lock",
];

/// Where bare names are looked up when PATH is not set: execvp(3) has such a default too.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file of the running program, whatever its name was, and whatever has that name now.
const OWN_FILE: &CStr = c"/proc/self/exe";

/// What is done before a file is executed.
pub type Before<'a> = dyn Fn(&CStr) -> Result<(), Error> + 'a;

/// PROG, looked for as far as that must be done before the step.
pub struct Found<'a> {
    args: &'a [CString],
    name: &'a CStr,
    /// One of our own tools, by its path.
    sibling: Option<CString>,
}

impl Prog {
    /// Is it one of our own tools, wherever that lies?
    fn is_ours(&self) -> bool {
        TOOLS.iter().any(|tool| tool.as_bytes() == self.name().to_bytes())
    }

    /// What a message calls it once it has ended: one of our tools has become something else meanwhile.
    pub fn shown(&self) -> String {
        if self.is_ours() { "PROG".into() } else { plain(self.name().to_bytes()) }
    }

    /// Find the program if it is one of our tools, before the working directory or the root changes.
    /// Any other is looked up where it will run, when it is executed.
    pub fn find(&self, cx: &Cx) -> Result<Found<'_>, Error> {
        let name = self.name();
        let own_path = if self.is_ours() { own_path(cx)? } else { None };
        let sibling = own_path.map(|path| sibling(cx, path, name));
        Ok(Found { args: self.args(), name, sibling })
    }
}

/// The absolute path of the running program. `None`: it is not known, or not one of this root.
fn own_path(cx: &Cx) -> Result<Option<Vec<u8>>, Error> {
    if let Some(path) = cx.sealed() {
        return Ok(path.starts_with(b"/").then(|| path.to_vec()));
    }
    if is_by_descriptor(cx) {
        // A copy that the caller made in memory lies nowhere; the caller may give a path as its name.
        let name = cx.start.args.first().map(|name| name.to_bytes().to_vec());
        return Ok(located(cx).or(name.filter(|name| name.starts_with(b"/"))));
    }
    let path = cx.start.execfn.to_bytes();
    if path.starts_with(b"/") {
        return Ok(Some(path.to_vec()));
    }
    let mut absolute = sys::getcwd(cx)?;
    absolute.push(b'/');
    absolute.extend(path);
    Ok(Some(absolute))
}

/// Were we executed by descriptor, as by fexecve(3)? Then the kernel gives no path. By now descriptor N may be closed
/// or another file, and where a script was executed it is the script: it does not show what runs.
fn is_by_descriptor(cx: &Cx) -> bool {
    cx.start.execfn.to_bytes().starts_with(b"/dev/fd/")
}

/// Where the running program lies, as /proc shows. `None`: it was removed, or is in memory or another root, or /proc is
/// not mounted.
fn located(cx: &Cx) -> Option<Vec<u8>> {
    let path = sys::readlinkat(cx, None, OWN_FILE).ok()?;
    let stat = |path: &CStr| sys::statx(cx, None, path, 0).ok();
    let is_there = path.starts_with(b"/") && stat(OWN_FILE)?.same_file(&stat(&cstring(&*path))?);
    is_there.then_some(path)
}

/// `name` beside the running program, `path`. Where that is a link and has none beside it: beside what it leads to, as
/// far as links lead. (So a directory may also hold links to all tools, of whatever names.)
fn sibling(cx: &Cx, mut path: Vec<u8>, name: &CStr) -> CString {
    let nearest = beside(&path, name);
    let mut found = nearest.clone();
    // The kernel follows as many: path_resolution(7).
    for _ in 0..=40 {
        if may_execute(cx, &found).is_ok_and(|is_there| is_there) {
            return found;
        }
        let Ok(target) = sys::readlinkat(cx, None, &cstring(&*path)) else { break };
        // From an absolute path, this and what is behind it is all; `..` in it is the kernel's to resolve.
        path =
            if target.starts_with(b"/") { target } else { [split_name(&path).0, &target].concat() };
        found = beside(&path, name);
    }
    nearest
}

/// `name` in the directory of `path`, which has a slash.
fn beside(path: &[u8], name: &CStr) -> CString {
    cstring([split_name(path).0, name.to_bytes()].concat())
}

impl Found<'_> {
    /// Is it one of our own tools?
    pub fn is_sibling(&self) -> bool {
        self.sibling.is_some()
    }

    /// Become PROG, with our own environment.
    pub fn exec(&self, cx: &Cx) -> Result<Never, Error> {
        self.exec_as(cx, None, None, &|_| Ok(()))
    }

    /// Become PROG in the environment `env` (`None`: our own) and under the name `argv0` (`None`: as
    /// it was written). `before` is the last thing that is done before a file is executed, of which PATH may have
    /// several. A dry run ends here, unless PROG is one of our tools: that goes on dry.
    pub fn exec_as(
        &self,
        cx: &Cx,
        env: Option<&[CString]>,
        argv0: Option<&CString>,
        before: &Before,
    ) -> Result<Never, Error> {
        let argv = self.argv(cx, argv0, None);
        if let Some(path) = &self.sibling {
            before(path)?;
            sys::execve(cx, path, &argv, env).map_err(|e| why_no_tool(cx, path, e))?;
            return Err(sys::execve_dry(cx, path, &argv));
        }
        if let Some(mask) = cx.mask_of_prog() {
            sys::rt_sigprocmask(cx, libc::SIG_SETMASK, mask)?;
        }
        descriptors::say_ready(cx)?;
        self.exec_prog(cx, &argv, env, before).inspect_err(|_| descriptors::say_failed(cx))
    }

    /// Execute PROG, which is not one of our tools.
    fn exec_prog(
        &self,
        cx: &Cx,
        argv: &[CString],
        env: Option<&[CString]>,
        before: &Before,
    ) -> Result<Never, Error> {
        if self.name.to_bytes().contains(&b'/') {
            before(self.name)?;
            sys::execve(cx, self.name, argv, env).map_err(|e| executable::why(cx, self.name, e))?;
            sys::exit_now(0);
        }
        let path = match env {
            None => cx.start.getenv("PATH"),
            Some(env) => {
                env.iter().find_map(|v| Some(v.to_bytes().strip_prefix(b"PATH=")?.to_vec()))
            }
        };
        self.search(cx, &path.unwrap_or_else(|| DEFAULT_PATH.into()), argv, env, before)
    }

    /// The arguments. One of our tools gets the options that the user gave once for the whole chain.
    /// `first` comes before them.
    fn argv(&self, cx: &Cx, argv0: Option<&CString>, first: Option<&str>) -> Vec<CString> {
        let mut argv = Vec::new();
        argv.extend(argv0.or(self.args.first()).cloned());
        argv.extend(first.map(cstring));
        if self.is_sibling() {
            argv.extend(cx.handed_on());
        }
        argv.extend_from_slice(self.args.get(1..).unwrap_or_default());
        argv
    }

    /// Try the directories of PATH in their order, as execvp(3) does: one that may not be entered or
    /// executed is passed over, and said when there is no other.
    fn search(
        &self,
        cx: &Cx,
        path: &[u8],
        argv: &[CString],
        env: Option<&[CString]>,
        before: &Before,
    ) -> Result<Never, Error> {
        let mut refused = None;
        // An empty name is that of no program, though every directory has it.
        let directories = split(path, b':').filter(|_| !self.name.is_empty());
        for directory in directories {
            let mut file = if directory.is_empty() { b".".to_vec() } else { directory.to_vec() };
            file.push(b'/');
            file.extend(self.name.to_bytes());
            let file = cstring(file);
            match may_execute(cx, &file) {
                Err(e) if e.is(Errno::ENOENT) || e.is(Errno::ENOTDIR) => {}
                Err(e) => refused = refused.or(Some((file, e))),
                Ok(is_there) => {
                    before(&file)?;
                    match sys::execve(cx, &file, argv, env) {
                        Ok(()) => sys::exit_now(0), // a dry run ends where PROG would begin
                        Err(e) if !is_there && (e.is(Errno::ENOENT) || e.is(Errno::ENOTDIR)) => {}
                        Err(e) if e.is(Errno::EACCES) => refused = refused.or(Some((file, e))),
                        Err(e) => return Err(executable::why(cx, &file, e)),
                    }
                }
            }
        }
        if let Some((file, e)) = refused {
            return Err(executable::why(cx, &file, e));
        }
        if cx.dry() {
            // The root in which it will be looked up may be one that this dry run did not change to.
            before(self.name)?;
            sys::execve(cx, self.name, argv, env)?;
            sys::exit_now(0);
        }
        let name = plain(self.name.to_bytes());
        Err(Error::refusal(format_args!("{name}: not found in PATH, {}", plain(path)))
            .with_status(NOT_FOUND))
    }

    /// A sealed copy of PROG, one of our tools, made before the root changes, to be executed after.
    pub fn seal(&self, cx: &Cx) -> Result<Option<OwnedFd>, Error> {
        self.sibling.as_ref().map(|path| seal(cx, path, self.name)).transpose()
    }

    /// Become the sealed copy, in the environment `env` (`None`: our own).
    pub fn exec_sealed(
        &self,
        cx: &Cx,
        copy: &OwnedFd,
        env: Option<&[CString]>,
    ) -> Result<Never, Error> {
        let argv = self.argv(cx, None, Some(sys::SEALED));
        sys::execveat(cx, copy.as_fd(), &argv, env)?;
        let path = self.sibling.as_deref().unwrap_or_default();
        // A dry run has made no copy.
        Err(sys::execve_dry(cx, path, &self.argv(cx, None, None)))
    }
}

/// May the file be executed by us? False: only execve(2) will tell, for a policy refuses to say whether it is there.
fn may_execute(cx: &Cx, file: &CStr) -> Result<bool, Error> {
    // What a policy, or a kernel without the call, says in place of it; of X_OK and of a path itself neither is said.
    let refused = |e: &Error| e.is(Errno::ENOSYS) || e.is(Errno::EPERM);
    match sys::faccessat2(cx, None, file, libc::X_OK) {
        Err(e) if refused(&e) => match sys::statx(cx, None, file, 0) {
            Err(e) if refused(&e) => Ok(false),
            other => other.map(|_| true),
        },
        other => other.map(|()| true),
    }
}

/// Why one of our tools was not executed. That is a failure of ours, and not of PROG.
fn why_no_tool(cx: &Cx, path: &CStr, error: Error) -> Error {
    executable::why(cx, path, error).with_status(FAILED)
}

/// Change the working directory. `uid` is who we are, for messages.
pub fn enter(cx: &Cx, directory: &CStr, uid: u32) -> Result<(), Error> {
    sys::chdir(cx, directory).map_err(|error| {
        let shown = plain(directory.to_bytes());
        let who = || ["uid ", &number(uid.into()), " may not search "].concat();
        match sys::statx(cx, None, directory, 0) {
            Ok(stat) if !stat.is_dir() => error.because(format_args!("{shown} is no directory")),
            Ok(_) if error.is(Errno::EACCES) => error.because([who(), shown].concat()),
            Ok(_) => error,
            Err(looked) if looked.is(Errno::EACCES) => {
                error.because([&who(), "a directory on the way to ", &shown].concat())
            }
            Err(looked) => error.because(why_unreachable(&shown, &looked)),
        }
    })
}

/// The same before our ids change. False: the directory may be open to who we shall be, and is closed to us (mode 0700
/// to a root without CAP_DAC_OVERRIDE, NFS that squashes root, FUSE of a user): it is to be tried again then.
pub fn entered(done: Result<(), Error>) -> Result<bool, Error> {
    match done {
        Err(e) if e.is(Errno::EACCES) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Refuse what is a way out of the new root on a standard stream: a directory leads there, and a block device can be
/// opened again inside, for writing too, through `/proc/self/fd`.
pub fn refuse_ways_out(cx: &Cx) -> Result<(), Error> {
    for fd in (0..3).filter(|fd| !cx.start.was_closed(*fd)) {
        let (what, way_out) = match sys::fstatx(cx, sys::standard_fd(fd))?.file_type() {
            libc::S_IFDIR => {
                let way_out = format!("close it: {fd}<&-");
                ("is a directory, which leads out of the new root", way_out)
            }
            libc::S_IFBLK => {
                let pipe = if fd == 0 { "cat DEV |" } else { "| cat >DEV" };
                let way_out = ["hand it over through a pipe: ", pipe].concat();
                ("is a block device, which can be opened for writing inside", way_out)
            }
            _ => continue,
        };
        return Err(Error::refusal(format_args!("descriptor {fd} {what}")).way_out(way_out));
    }
    Ok(())
}

/// Run from a sealed copy of ourselves, unless whoever executed us says that we do: see [`sys::SEALED`]. What executes
/// a program of the container must not be a file of the host: through `/proc/PID/exe` the program could write to it
/// (CVE-2019-5736). The copy still finds the other tools beside the file.
pub fn reexec_sealed(cx: &Cx) -> Result<(), Error> {
    if cx.sealed().is_some() {
        return Ok(());
    }
    let path = own_path(cx)?;
    let (file, from) = own_file(cx, path.as_deref())?;
    let name = cstring(cx.tool);
    let copy = seal_file(cx, file.as_fd(), &from, &name)?;
    let mut sealed = sys::SEALED.as_bytes().to_vec();
    path.iter().for_each(|path| sealed.extend([b"=", &**path].concat()));
    let mut args = cx.start.args.iter().cloned();
    let mut argv = vec![args.next().unwrap_or(name), cstring(sealed)];
    argv.extend(args);
    sys::execveat(cx, copy.as_fd(), &argv, None)
}

/// The file of the running program, and a path to it. `path` may be that of another file by now, or of a script, so it
/// serves only where /proc does not.
fn own_file(cx: &Cx, path: Option<&[u8]>) -> Result<(OwnedFd, CString), Error> {
    let open = |path: &CStr| sys::openat(cx, None, path, libc::O_RDONLY);
    match (open(OWN_FILE), path) {
        (Ok(file), _) => Ok((file, OWN_FILE.into())),
        (Err(_), Some(path)) if !is_by_descriptor(cx) => {
            let path = cstring(path);
            open(&path).map_err(|e| why_no_tool(cx, &path, e)).map(|file| (file, path))
        }
        (Err(error), _) if error.is(Errno::ENOENT) => Err(error
            .because("this program was started by descriptor, and its file can be opened only through /proc")
            .way_out("mount proc on /proc, or start it by its path")),
        (Err(error), _) => Err(error),
    }
}

/// A copy of the program `path` in memory that nobody can write to, not even through `/proc`.
fn seal(cx: &Cx, path: &CStr, name: &CStr) -> Result<OwnedFd, Error> {
    let file = sys::openat(cx, None, path, libc::O_RDONLY).map_err(|e| why_no_tool(cx, path, e))?;
    seal_file(cx, file.as_fd(), path, name)
}

/// A copy of an open file, to which `path` leads.
fn seal_file(cx: &Cx, file: BorrowedFd, path: &CStr, name: &CStr) -> Result<OwnedFd, Error> {
    let bits = libc::MFD_ALLOW_SEALING as u64;
    let memfd = match sys::memfd_create(cx, name, bits | MFD_EXEC) {
        // Before Linux 6.3 there is no MFD_EXEC, and no need of it.
        Err(e) if e.is(Errno::EINVAL) => sys::memfd_create(cx, name, bits),
        other => other,
    };
    let memfd = match memfd {
        // vm.memfd_noexec is 2: nothing in memory may be executed. The file itself, read-only then.
        Err(e) if e.is(Errno::EACCES) => return read_only(cx, path),
        other => other?,
    };
    let mut left = sys::fstatx(cx, file)?.size as usize;
    while left > 0 {
        match sys::sendfile(cx, memfd.as_fd(), file, left)? {
            0 if cx.dry() => break,
            0 => {
                return Err(Error::refusal(format_args!(
                    "{} was cut short",
                    plain(path.to_bytes())
                )));
            }
            n => left = left.saturating_sub(n),
        }
    }
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // EBUSY: the kernel still has a page of it in its own hands, and has waited some 150 ms for that: mm/memfd.c.
    let mut tries = 10;
    loop {
        match sys::fcntl_add_seals(cx, memfd.as_fd(), seals) {
            Err(e) if e.is(Errno::EBUSY) && tries > 1 => tries -= 1,
            other => return other.map(|()| memfd),
        }
    }
}

/// The program `path` on a mount of its own, which is nowhere and read-only.
fn read_only(cx: &Cx, path: &CStr) -> Result<OwnedFd, Error> {
    let tree = sys::open_tree(cx, None, path, libc::OPEN_TREE_CLONE)?;
    let attr = MountAttr { attr_set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    sys::mount_setattr(cx, tree.as_fd(), 0, attr)?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sibling_is_in_the_same_directory() {
        assert_eq!(beside(b"/usr/bin/td-unshare", c"td-exec").as_c_str(), c"/usr/bin/td-exec");
        assert_eq!(beside(b"/td-unshare", c"td-exec").as_c_str(), c"/td-exec");
    }
}
