//! A path, one component after the other: which of them has no file, and how that comes: path_resolution(7).

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::show::{number, octal, plain};
use crate::sys::structs::{FileId, Statx};

/// The longest name of a file, and the longest path: NAME_MAX, PATH_MAX without its zero byte.
const LONGEST: [usize; 2] = [255, libc::PATH_MAX as usize - 1];
/// As many symbolic links are followed in a path: path_resolution(7).
const MOST_LINKS: usize = 40;

/// How files are looked at.
pub trait Looks {
    /// The file at a path; with `follow` that to which a link leads, else the link.
    fn stat(&self, path: &[u8], follow: bool) -> Result<Statx, Error>;
    /// What the link at a path says.
    fn link(&self, path: &[u8]) -> Result<Vec<u8>, Error>;
    /// How a message names a path.
    fn shown(&self, path: &[u8]) -> String;
    /// Where what does not exist is looked for: empty, or ` in this root`.
    fn place(&self) -> &'static str;
    /// Who looks: `uid 1000`.
    fn who(&self) -> String;
}

/// What keeps a path from leading to a file.
#[derive(Debug, PartialEq)]
pub struct Fault {
    /// What the kernel answers.
    pub errno: Errno,
    /// The cause, where more is known than the errno.
    pub why: Option<String>,
    /// Is it only the last name that does not exist? What is to be created is there: not always the path itself, for
    /// a link may lead to it.
    pub missing: Option<Vec<u8>>,
}

fn fault(errno: Errno, why: String) -> Fault {
    Fault { errno, why: Some(why), missing: None }
}

/// A walk along a path.
pub struct Walk<'a> {
    looks: &'a dyn Looks,
    /// The links that are being followed, an outer one first.
    links: Vec<FileId>,
}

impl<'a> Walk<'a> {
    /// At its beginning.
    pub fn new(looks: &'a dyn Looks) -> Walk<'a> {
        Walk { looks, links: Vec::new() }
    }

    /// The file to which a path leads. If it ends in a link and not `follow`, the link.
    pub fn go(&mut self, path: &[u8], follow: bool) -> Result<Statx, Fault> {
        if path.is_empty() {
            return Err(fault(Errno::ENOENT, "an empty path names no file".into()));
        }
        if path.len() > LONGEST[1] {
            let why = too_long("the path", path.len(), LONGEST[1]);
            return Err(fault(Errno::ENAMETOOLONG, why));
        }
        let mut found = None;
        let mut at = 0;
        while let Some([start, end]) = next_name(path, at) {
            at = end;
            let is_last = next_name(path, end).is_none();
            // A slash at the end of a path asks for a directory.
            let leads_on = !is_last || path.ends_with(b"/");
            let (parent, here) = (parent(path, start), path.get(..end).unwrap_or_default());
            let stat = self
                .one(parent, here, leads_on || follow)
                .map_err(|fault| Fault { missing: fault.missing.filter(|_| is_last), ..fault })?;
            if leads_on && !stat.is_dir() {
                return Err(fault(Errno::ENOTDIR, self.looks.shown(here) + " is not a directory"));
            }
            found = Some(stat);
        }
        found.map_or_else(|| self.looks.stat(path, true).map_err(|e| other(&e)), Ok)
    }

    /// The file at the path `here`, whose last name is in `parent`.
    fn one(&mut self, parent: &[u8], here: &[u8], follow: bool) -> Result<Statx, Fault> {
        let stat = self.looks.stat(here, false).map_err(|e| self.why_not(parent, here, &e))?;
        if stat.file_type() != libc::S_IFLNK || !follow {
            return Ok(stat);
        }
        self.looks.stat(here, true).map_err(|e| self.why_not_followed(parent, here, &stat, &e))
    }

    /// Why no file is found at `here`, whose directory is there.
    fn why_not(&self, parent: &[u8], here: &[u8], error: &Error) -> Fault {
        match error.errno() {
            Some(Errno::ENOENT) if parent == b"." && is_removed(self.looks, parent) => {
                fault(Errno::ENOENT, "the working directory was removed".into())
            }
            Some(Errno::ENOENT) => {
                let why = Some(self.looks.shown(here) + " does not exist" + self.looks.place());
                Fault { errno: Errno::ENOENT, why, missing: Some(here.to_vec()) }
            }
            Some(Errno::EACCES) => fault(Errno::EACCES, may_not(self.looks, "search", parent)),
            Some(Errno::ENAMETOOLONG) => {
                let name = here.rsplit(|b| *b == b'/').next().unwrap_or_default();
                match name.len() > LONGEST[0] {
                    true => fault(
                        Errno::ENAMETOOLONG,
                        too_long("a name in the path", name.len(), LONGEST[0]),
                    ),
                    false => other(error),
                }
            }
            _ => other(error),
        }
    }

    /// Why a link leads nowhere.
    fn why_not_followed(
        &mut self,
        parent: &[u8],
        here: &[u8],
        link: &Statx,
        error: &Error,
    ) -> Fault {
        let shown = self.looks.shown(here);
        if self.links.contains(&link.id()) {
            return fault(Errno::ELOOP, shown + " is a symbolic link that leads to itself");
        }
        if self.links.len() >= MOST_LINKS {
            return fault(Errno::ELOOP, "more than 40 symbolic links are on the way".into());
        }
        let Ok(target) = self.looks.link(here) else { return other(error) };
        let path = match (target.starts_with(b"/"), parent) {
            (true, _) | (_, b".") => target.clone(),
            (_, b"/") => [parent, &target].concat(),
            _ => [parent, b"/", &target].concat(),
        };
        self.links.push(link.id());
        let further = self.go(&path, true);
        self.links.pop();
        // A magic link (proc(5)) leads elsewhere than it says, and a link with a condition may not be followed.
        match further {
            Ok(_) => other(error),
            Err(further) if !error.is(further.errno) => other(error),
            // Of a loop the one link says enough.
            Err(further) if further.errno == Errno::ELOOP => further,
            Err(Fault { why, .. }) if why.is_none() => other(error),
            Err(Fault { errno, why, missing }) => {
                let link = [&shown, " is a symbolic link to ", &plain(&target), ", and "].concat();
                Fault { errno, why: why.map(|why| link + &why), missing }
            }
        }
    }
}

/// Only the errno is known.
fn other(error: &Error) -> Fault {
    Fault { errno: error.errno().unwrap_or(Errno::EIO), why: None, missing: None }
}

/// Does a directory have no name any more?
pub fn is_removed(looks: &dyn Looks, directory: &[u8]) -> bool {
    looks.stat(directory, true).is_ok_and(|stat| stat.nlink == 0)
}

/// `uid 1000 may not search /root, which belongs to uid 0, gid 0 (mode 0700)`
pub fn may_not(looks: &dyn Looks, act: &str, path: &[u8]) -> String {
    let shown = match path {
        b"." => "the working directory".into(),
        path => looks.shown(path),
    };
    let mut text = [&looks.who(), " may not ", act, " ", &shown].concat();
    if let Ok(stat) = looks.stat(path, true) {
        text += &[", which belongs to uid ", &number(stat.uid.into())].concat();
        text += &[", gid ", &number(stat.gid.into())].concat();
        octal(" (mode ", stat.permissions(), &mut text);
        text.push(')');
    }
    text
}

fn too_long(what: &str, length: usize, most: usize) -> String {
    let (length, most) = (number(length as u64), number(most as u64));
    [what, " has ", &length, " bytes, and the kernel allows ", &most].concat()
}

/// Where the next name of a path begins and ends, from `at` on.
fn next_name(path: &[u8], at: usize) -> Option<[usize; 2]> {
    let rest = path.get(at..)?;
    let start = at + rest.iter().position(|byte| *byte != b'/')?;
    let length = path.get(start..)?.iter().position(|byte| *byte == b'/');
    Some([start, length.map_or(path.len(), |length| start + length)])
}

/// The directory of the name that begins at `start`.
fn parent(path: &[u8], start: usize) -> &[u8] {
    let before = path.get(..start).unwrap_or_default();
    match before.iter().rposition(|byte| *byte != b'/') {
        Some(last) => before.get(..=last).unwrap_or_default(),
        None if before.is_empty() => b".",
        None => b"/",
    }
}

/// The directory that the last name of a path is in.
pub fn parent_of(path: &[u8]) -> &[u8] {
    let (mut start, mut at) = (0, 0);
    while let Some([from, end]) = next_name(path, at) {
        (start, at) = (from, end);
    }
    parent(path, start)
}
