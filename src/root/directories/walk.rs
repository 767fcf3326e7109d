//! A walk along a path, one name at a time, each by the descriptor of the directory before it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use syscalls::Errno;

use crate::root::directories::trust;
use crate::say::error::{Error, Subject, Use};
use crate::say::show::plain;
use crate::say::text::split;
use crate::sys::{self, Cx, Walked, cstring};

/// A directory that was made.
pub struct Made {
    parent: Rc<OwnedFd>,
    name: CString,
    /// The path that led to it.
    path: Vec<u8>,
}

/// What is asked of the last directory of a path.
#[derive(Clone, Copy, PartialEq)]
pub enum Last {
    /// What is asked of those before it.
    Checked,
    /// That it is not a link. It may belong to anybody, as the root of an image does.
    Anyones,
}

/// Does `path` begin with the names of `state`, and go on with others?
pub fn is_below(path: &CStr, state: &CStr) -> bool {
    within(path.to_bytes(), state.to_bytes()).is_some()
}

/// What follows the names of `state` in a path.
fn within<'a>(path: &'a [u8], state: &[u8]) -> Option<&'a [u8]> {
    let (mut end, mut end_in_state) = (0, 0);
    while let Some([from, to]) = next_name(state, end_in_state) {
        let [start, stop] = next_name(path, end)?;
        if path.get(start..stop) != state.get(from..to) {
            return None;
        }
        (end, end_in_state) = (stop, to);
    }
    let is_alike = path.starts_with(b"/") == state.starts_with(b"/");
    path.get(end..).filter(|rest| is_alike && next_name(rest, 0).is_some())
}

/// Where the next name of a path begins and ends, from `at` on. `.` is none: it leads nowhere else.
fn next_name(path: &[u8], mut at: usize) -> Option<[usize; 2]> {
    loop {
        let rest = path.get(at..)?;
        let start = at + rest.iter().position(|byte| *byte != b'/')?;
        let name = split(path.get(start..)?, b'/').next()?;
        at = start + name.len();
        if name != b"." {
            return Some([start, at]);
        }
    }
}

/// Remove the directories that were made. The first that cannot be removed keeps its parents, too.
pub fn undo(cx: &Cx, made: &[Made]) -> Result<(), Error> {
    made.iter().rev().try_for_each(|made| {
        match sys::unlinkat(cx, Some(made.parent.as_fd()), &made.name, libc::AT_REMOVEDIR) {
            Err(e) if e.is(Errno::ENOENT) => Ok(()), // somebody else did it
            other => other,
        }
    })
}

/// The number of links that the kernel follows in one path: path_resolution(7).
const MOST_LINKS: u32 = 40;

const DIRECTORY: i32 = libc::O_DIRECTORY | libc::O_NOFOLLOW;

/// A path, and how far it has been walked.
pub struct Walk {
    /// The path, in which a link is replaced by what it says.
    path: Vec<u8>,
    /// Where the name begins and ends that was taken last.
    name: [usize; 2],
    /// When no more than this is left, the walk is in the state.
    below: usize,
    last: Last,
    /// Who is trusted in the caller's place.
    pub owner: Option<u32>,
    links: u32,
    /// Was the directory made that was taken last?
    pub is_new: bool,
}

impl Walk {
    /// Along `path`; below `state` no link is followed.
    pub fn new(path: &CStr, state: Option<&CStr>, last: Last) -> Walk {
        let path = path.to_bytes();
        let below = state.and_then(|state| within(path, state.to_bytes())).map_or(0, <[u8]>::len);
        Walk {
            path: path.to_vec(),
            name: [0; 2],
            below,
            last,
            owner: None,
            links: 0,
            is_new: false,
        }
    }

    /// Walk to the end. With `made`, what is missing is made.
    pub fn run(
        &mut self,
        cx: &Cx,
        mut made: Option<&mut Vec<Made>>,
    ) -> Result<Option<Rc<OwnedFd>>, Error> {
        let mut here = match self.resume(cx).or_else(|| self.skip(cx)) {
            Some(directory) => directory,
            None => self.begin(cx)?.into(),
        };
        // In a dry run: this directory would have been made.
        let mut assumed = false;
        while let Some(name) = self.next() {
            let flags = libc::O_PATH | DIRECTORY;
            let opened = match assumed {
                false => {
                    sys::openat(cx.expects(&[Errno::ENOENT]), Some(here.as_fd()), &name, flags)
                }
                true => Err(Error::refusal("")),
            };
            let error = match opened {
                Ok(directory) => {
                    self.is_new = false;
                    here = self.checked(cx, directory)?.into();
                    self.keep(cx, &here);
                    continue;
                }
                Err(error) => error,
            };
            if error.is(Errno::ENOTDIR) {
                if self.follow(cx, here.as_fd(), &name, error)? {
                    here = self.begin(cx)?.into();
                }
            } else if assumed || error.is(Errno::ENOENT) {
                let Some(made) = &mut made else { return Ok(None) };
                assumed = cx.dry();
                here = self.make(cx, here, name, made)?.into();
                if !assumed {
                    self.keep(cx, &here);
                }
            } else {
                let path = cstring(self.path.get(..self.name[1]).unwrap_or_default());
                return Err(error.with_path(Subject { path, used: Use::Find, follows: false }));
            }
        }
        Ok(Some(here))
    }

    /// Begin in the last of the directories of [`Walked`] to which this path leads as well.
    fn resume(&mut self, cx: &Cx) -> Option<Rc<OwnedFd>> {
        let mut walked = cx.walked.take().filter(|walked| walked.owner == self.owner(cx))?;
        let is_on_the_way = |end: usize| {
            let (path, rest) = self.path.split_at_checked(end)?;
            let is_whole = rest.is_empty() || rest.starts_with(b"/");
            (is_whole && walked.path.starts_with(path)).then_some(())
        };
        let all = walked.directories.iter();
        let known = all.take_while(|(end, _)| is_on_the_way(*end).is_some()).count();
        walked.directories.truncate(known);
        let (end, directory) = walked.directories.last().filter(|_| self.below > 0).cloned()?;
        self.name = [0, end];
        walked.path = self.path.clone();
        cx.walked.set(Some(walked));
        Some(directory)
    }

    /// Begin in the state, or without one at the end, if no link leads there and all directories are trusted. They are
    /// looked at by their paths, in half the time: nobody else can replace what is in a trusted directory.
    fn skip(&mut self, cx: &Cx) -> Option<Rc<OwnedFd>> {
        if !self.path.starts_with(b"/") || self.below == 0 && self.last == Last::Anyones {
            return None;
        }
        let mut end = 1;
        loop {
            let path = cstring(self.path.get(..end)?);
            let stat =
                sys::statx(cx.expects(&[Errno::ENOENT]), None, &path, libc::AT_SYMLINK_NOFOLLOW)
                    .ok()?;
            (stat.file_type() == libc::S_IFDIR).then_some(())?;
            trust::check(cx, self.owner, &stat, "").ok()?;
            let next = next_name(&self.path, end).filter(|_| self.path.len() - end > self.below);
            if let Some([_, stop]) = next {
                end = stop;
                continue;
            }
            let directory = sys::openat(cx, None, &path, libc::O_PATH | DIRECTORY).ok()?.into();
            self.name = [0, end];
            self.keep(cx, &directory);
            return Some(directory);
        }
    }

    /// Keep the directory to which the walk has come for the next one. (In the state no link changes the path.)
    fn keep(&self, cx: &Cx, directory: &Rc<OwnedFd>) {
        let is_in_state = self.below > 0 && self.rest().len() <= self.below;
        if !is_in_state || self.is_anyones() {
            return;
        }
        let mut walked = cx.walked.take().unwrap_or_else(|| Walked {
            path: self.path.clone(),
            owner: self.owner(cx),
            directories: Vec::new(),
        });
        walked.directories.push((self.name[1], directory.clone()));
        cx.walked.set(Some(walked));
    }

    /// Who is trusted beside root.
    fn owner(&self, cx: &Cx) -> u32 {
        self.owner.unwrap_or(cx.start.euid)
    }

    /// Open where the path begins.
    fn begin(&mut self, cx: &Cx) -> Result<OwnedFd, Error> {
        let is_absolute = self.path.starts_with(b"/");
        self.name = [0, is_absolute.into()];
        let start = if is_absolute { c"/" } else { c"." };
        let directory = sys::openat(cx, None, start, libc::O_PATH | libc::O_DIRECTORY)?;
        trust::check(cx, self.owner, &sys::fstatx(cx, directory.as_fd())?, &self.shown())?;
        Ok(directory)
    }

    /// Take the next name.
    fn next(&mut self) -> Option<CString> {
        let [start, end] = next_name(&self.path, self.name[1])?;
        self.name = [start, end];
        self.path.get(start..end).map(cstring)
    }

    /// What is left to walk.
    fn rest(&self) -> &[u8] {
        self.path.get(self.name[1]..).unwrap_or_default()
    }

    /// What has been walked.
    fn shown(&self) -> String {
        match self.path.get(..self.name[1]) {
            Some([]) | None => ".".into(),
            Some(walked) => plain(walked),
        }
    }

    /// Replace the link `name` by its target. Returns whether the path starts again at the root.
    fn follow(
        &mut self,
        cx: &Cx,
        parent: BorrowedFd,
        name: &CStr,
        error: Error,
    ) -> Result<bool, Error> {
        let link = sys::statx(cx, Some(parent), name, libc::AT_SYMLINK_NOFOLLOW)?;
        if link.file_type() != libc::S_IFLNK {
            return Err(error.because([&self.shown(), " is not a directory"].concat()));
        }
        if self.is_anyones() || self.rest().len() < self.below {
            return Err(error
                .because(
                    [&self.shown(), " is a symbolic link, which is not followed here"].concat(),
                )
                .way_out("mount the directory there, or give its own path"));
        }
        trust::check_owner(cx, self.owner, &link, &self.shown())?;
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(error.because(["too many symbolic links: ", &self.shown()].concat()));
        }
        let target = sys::readlinkat(cx, Some(parent), name)?;
        let is_absolute = target.starts_with(b"/");
        let before = if is_absolute { 0 } else { self.name[0] };
        let walked = self.path.get(..before).unwrap_or_default();
        self.path = [walked, &target, self.rest()].concat();
        self.name = [before; 2];
        Ok(is_absolute)
    }

    /// Make the directory `name`, which does not exist.
    fn make(
        &mut self,
        cx: &Cx,
        parent: Rc<OwnedFd>,
        name: CString,
        made: &mut Vec<Made>,
    ) -> Result<OwnedFd, Error> {
        let dir = Some(parent.as_fd());
        let flags = libc::O_RDONLY | DIRECTORY;
        let path = self.path.get(..self.name[1]).unwrap_or_default();
        // A dry run has made it already where an earlier path led through it.
        self.is_new = !(cx.dry() && made.iter().any(|made| made.path == path));
        if !self.is_new {
            return sys::openat_made(cx, dir, &name, flags);
        }
        match sys::mkdirat(cx, dir, &name, 0o700) {
            // Another was quicker, and it is theirs.
            Err(e) if e.is(Errno::EEXIST) => {
                self.is_new = false;
                let directory = sys::openat(cx, dir, &name, libc::O_PATH | DIRECTORY)?;
                return self.checked(cx, directory);
            }
            other => other?,
        }
        let opened = sys::openat_made(cx, dir, &name, flags);
        made.push(Made { path: path.to_vec(), parent, name });
        let opened = opened?;
        // The umask, a default ACL or a set-group-id parent may have changed the mode 0700.
        sys::fchmod(cx, opened.as_fd(), 0o700)?;
        Ok(opened)
    }

    /// Is the current name the last of the path, which may belong to any user?
    fn is_anyones(&self) -> bool {
        self.last == Last::Anyones && self.rest().iter().all(|byte| *byte == b'/')
    }

    fn checked(&self, cx: &Cx, directory: OwnedFd) -> Result<OwnedFd, Error> {
        if !self.is_anyones() {
            trust::check(cx, self.owner, &sys::fstatx(cx, directory.as_fd())?, &self.shown())?;
        }
        Ok(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_a_directory_however_both_are_spelt() {
        for state in ["/s/t", "/s/t/", "//s/./t", "/./s//t/."] {
            for path in ["/s/t/x", "//s/t//x/", "/s/./t/./x", "/s/t/../x"] {
                assert!(within(path.as_bytes(), state.as_bytes()).is_some(), "{path} {state}");
            }
            for path in ["/s/t", "/s/t/", "/s/t/.", "/s/tx", "/s/x/t", "s/t/x", "/s", "/"] {
                assert_eq!(within(path.as_bytes(), state.as_bytes()), None, "{path} {state}");
            }
        }
        assert_eq!(within(b"/a//b", b"/"), Some(&b"/a//b"[..]));
        assert_eq!(within(b"./s/x", b"s"), Some(&b"/x"[..]));
        assert_eq!(within(b"x", b"."), Some(&b"x"[..]));
    }
}
