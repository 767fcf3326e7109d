//! Users and groups of the root that we are in: passwd(5), group(5).

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::number::id;
use crate::say::show::plain;
use crate::say::text::{lines, split};
use crate::sys::{self, Cx};

/// What the databases say of one user.
#[derive(Debug, PartialEq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// The home directory; `/` where passwd names none.
    pub home: Vec<u8>,
    /// The supplementary groups, the user's own group first as initgroups(3) has it.
    pub groups: Vec<u32>,
}

/// The text of `/etc/passwd` and `/etc/group`. A root without them has no names, but ids still.
#[derive(Default)]
pub struct Databases {
    pub passwd: Vec<u8>,
    pub group: Vec<u8>,
}

/// No database of users is larger.
const LARGEST: usize = 16 << 20;

/// Open a file of an image, which may be hostile. `None`: it does not exist. Nothing is opened for reading before
/// it is known to be a regular file: to open a FIFO or a device does something, and what `/proc` shows as a regular
/// file may be the kernel's log, which is gone once it is read.
///
/// The caller may mount the file or its directory there. A symbolic link comes from the image: it may not lead to
/// another mount.
fn open(cx: &Cx, path: &CStr) -> Result<Option<OwnedFd>, Error> {
    let root = sys::openat(cx, None, c"/", libc::O_PATH | libc::O_DIRECTORY)?;
    let shown = plain(path.to_bytes());
    let mut resolve = libc::RESOLVE_NO_SYMLINKS;
    loop {
        let open = |flags| sys::openat2(cx, root.as_fd(), path, flags, resolve);
        let seen = match open(libc::O_PATH) {
            // A root without the file still has numeric ids; a dry run may be in another root.
            Err(e) if e.is(Errno::ENOENT) || e.is(Errno::ENOTDIR) => return Ok(None),
            Err(e) if e.is(Errno::ELOOP) && resolve == libc::RESOLVE_NO_SYMLINKS => {
                resolve = libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS;
                continue;
            }
            Err(e) if e.is(Errno::EXDEV) => {
                let what = format!("{shown} is a symbolic link to another mount");
                return Err(e.because(what).way_out("use numbers, or mount the file there"));
            }
            other => sys::fstatx(cx, other?.as_fd())?,
        };
        if seen.file_type() != libc::S_IFREG {
            return Err(Error::refusal(format_args!("{shown} is not a regular file")));
        }
        let file = open(libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY)?;
        return match sys::fstatx(cx, file.as_fd())?.same_file(&seen) {
            true => Ok(Some(file)),
            false => {
                Err(Error::refusal(format_args!("{shown} was replaced while it was being opened")))
            }
        };
    }
}

fn read(cx: &Cx, path: &CStr) -> Result<Vec<u8>, Error> {
    let Some(file) = open(cx, path)? else { return Ok(Vec::new()) };
    let mut text = Vec::new();
    sys::with_piece(cx, &mut |piece| {
        while text.len() <= LARGEST {
            match sys::read(cx, file.as_fd(), piece)? {
                0 => return Ok(()),
                n => text.extend_from_slice(piece.get(..n).unwrap_or_default()),
            }
        }
        let shown = plain(path.to_bytes());
        Err(Error::refusal(format_args!("{shown} is larger than {LARGEST} bytes")))
    })?;
    Ok(text)
}

impl Databases {
    /// Read both.
    pub fn read(cx: &Cx) -> Result<Databases, Error> {
        Ok(Databases { passwd: read(cx, c"/etc/passwd")?, group: read(cx, c"/etc/group")? })
    }

    /// `USER[:GROUP]`, each a name or a number. A number that is nobody's is a user in group 0, as
    /// docker has it; with GROUP there are no other groups.
    pub fn user(&self, text: &[u8]) -> Result<User, Error> {
        let (name, group) = match text.iter().position(|b| *b == b':') {
            Some(colon) => (text.get(..colon), text.get(colon + 1..)),
            None => (Some(text), None),
        };
        let name = name.unwrap_or_default();
        let uid = typed(name)?;
        let mut user = match (line(&self.passwd, if uid.is_some() { 2 } else { 0 }, name), uid) {
            (Some(fields), _) => self.known(&fields).ok_or_else(|| {
                let what = format!("the line of {} in /etc/passwd has no valid ids", plain(name));
                Error::refusal(what)
            })?,
            (None, Some(uid)) => User { uid, gid: 0, home: b"/".to_vec(), groups: vec![0] },
            (None, None) => {
                let what = format!("the user {} does not exist in /etc/passwd", plain(name));
                return Err(Error::refusal(what).way_out("give the number instead"));
            }
        };
        if let Some(group) = group {
            user.gid = self.group(group)?;
            user.groups = vec![user.gid];
        }
        Ok(user)
    }

    /// The user of a line of passwd, if both ids are numbers.
    fn known(&self, fields: &[&[u8]]) -> Option<User> {
        let field = |i: usize| fields.get(i).copied().unwrap_or_default();
        let (uid, gid) = (id(field(2))?, id(field(3))?);
        let member = |list: &[u8]| split(list, b',').any(|name| name == field(0));
        let also = table(&self.group)
            .filter(|group| group.get(3).is_some_and(|list| member(list)))
            .filter_map(|group| id(group.get(2)?))
            .filter(|other| *other != gid);
        let groups = [gid].into_iter().chain(also).collect();
        let home = if field(5).is_empty() { b"/" } else { field(5) };
        Some(User { uid, gid, home: home.to_vec(), groups })
    }

    /// The home directory of an id; `/` where it is nobody's.
    pub fn home(&self, uid: u32) -> Vec<u8> {
        self.user(uid.to_string().as_bytes()).map_or_else(|_| b"/".to_vec(), |user| user.home)
    }

    /// A group, by name or number.
    pub fn group(&self, name: &[u8]) -> Result<u32, Error> {
        if let Some(gid) = typed(name)? {
            return Ok(gid);
        }
        line(&self.group, 0, name).and_then(|fields| id(fields.get(2)?)).ok_or_else(|| {
            let what = format!("the group {} does not exist in /etc/group", plain(name));
            Error::refusal(what).way_out("give the number instead")
        })
    }

    /// Groups by name or number, with commas between them. Nothing is none.
    pub fn groups(&self, list: &[u8]) -> Result<Vec<u32>, Error> {
        let names = split(list, b',').filter(|name| !name.is_empty());
        names.map(|name| self.group(name)).collect()
    }
}

/// The fields of each line.
fn table(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    lines(text).map(|line| split(line, b':').collect())
}

/// The first line whose field `index` is `value`.
fn line<'a>(text: &'a [u8], index: usize, value: &[u8]) -> Option<Vec<&'a [u8]>> {
    let is = |fields: &Vec<&[u8]>| fields.len() > 2 && fields.get(index) == Some(&value);
    table(text).filter(|_| !value.is_empty()).find(is)
}

/// The id that was typed. `None`: it is a name. What looks like a number is never one: a line of the image,
/// `1000:x:0:0:…`, would decide what 1000 is (CVE-2016-3697). So a name begins with a letter, `_`, or a byte that
/// is not ASCII.
fn typed(text: &[u8]) -> Result<Option<u32>, Error> {
    match text {
        [] => Ok(None),
        [b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.., ..] => Ok(None),
        // Zeros in front mean another base to others.
        [b'0', _, ..] => Err(no_id(text)),
        _ => id(text).map(Some).ok_or_else(|| no_id(text)),
    }
}

fn no_id(text: &[u8]) -> Error {
    let what = format!("{} is neither an id nor a name", plain(text));
    Error::refusal(what).way_out("an id is a decimal number from 0 to 4294967294")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn databases() -> Databases {
        Databases {
            passwd: b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:100::/srv/app:/bin/sh\nbroken\n\
                ::5:5:::\nodd:x:many:100:::\nnone:x:4294967295:100:::\nhalf:x:7\n"
                .to_vec(),
            group: b"root:x:0:\nusers:x:100:app\nwheel:x:10:root,app\nadm:x:4:application\n"
                .to_vec(),
        }
    }

    #[test]
    fn finds_a_user_by_name_and_by_number_with_the_groups_that_list_it() {
        let app = User { uid: 1000, gid: 100, home: b"/srv/app".to_vec(), groups: vec![100, 10] };
        assert_eq!(databases().user(b"app").expect("by name"), app);
        assert_eq!(databases().user(b"1000").expect("by number"), app);
    }

    #[test]
    fn a_number_is_never_a_name() {
        let names =
            ["1000", "0x10", "+7", "-1", "007", " 7", "4294967295", "4294967296", "7a", "1"];
        let line = |name| format!("{name}:x:0:0:::\n");
        let lines = names.map(line).concat().into_bytes();
        let hostile = Databases { passwd: lines.clone(), group: lines };
        for name in names {
            let ids = [
                hostile.user(name.as_bytes()).map(|user| user.uid),
                hostile.group(name.as_bytes()),
            ];
            let also = [
                hostile.user([b"1:", name.as_bytes()].concat().as_slice()).map(|user| user.gid),
                hostile.groups(name.as_bytes()).map(|groups| groups[0]),
            ];
            for id in ids.into_iter().chain(also) {
                match (name, id) {
                    ("1000", Ok(1000)) | ("1", Ok(1)) => {}
                    ("1000" | "1", other) => panic!("{name}: {other:?}"),
                    (_, Ok(id)) => panic!("{name} was taken for {id}"),
                    (_, Err(error)) => {
                        let error = error.text("x");
                        assert!(error.contains("is neither an id nor a name"), "{name}: {error}");
                    }
                }
            }
        }
        assert_eq!(hostile.home(1000), b"/");
    }

    #[test]
    fn a_group_that_is_given_is_the_only_one() {
        let user = databases().user(b"app:wheel").expect("both are there");
        assert_eq!((user.uid, user.gid, user.groups), (1000, 10, vec![10]));
    }

    #[test]
    fn a_number_that_is_nobodys_is_in_group_0() {
        let user = databases().user(b"4242").expect("a number needs no entry");
        assert_eq!((user.uid, user.gid, user.home), (4242, 0, b"/".to_vec()));
    }

    #[test]
    fn refuses_names_that_are_not_there_and_the_id_that_is_none() {
        assert!(databases().user(b"nobody").is_err());
        assert!(databases().user(b"app:nogroup").is_err());
        assert!(databases().user(b"4294967295").is_err());
        assert!(databases().user(b"").is_err());
    }

    #[test]
    fn a_line_without_valid_ids_is_refused_and_not_taken_for_root() {
        for name in ["odd", "none", "half"] {
            let error = databases().user(name.as_bytes()).expect_err(name).text("x");
            assert!(error.contains("no valid ids"), "{name}: {error}");
        }
    }

    #[test]
    fn an_empty_list_is_no_group() {
        assert_eq!(databases().groups(b"").expect("an empty list"), Vec::<u32>::new());
        assert_eq!(databases().groups(b"wheel,7").expect("a list"), vec![10, 7]);
    }
}
