//! Users and groups of the root that we are in: passwd(5), group(5); and taking their ids.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::ids::caps::{self, CAP_SETGID, CAP_SETUID};
use crate::ids::user_namespace;
use crate::say::error::{Error, FAILED};
use crate::say::number::decimal;
use crate::say::show::plain;
use crate::say::text::{lines, split};
use crate::sys::structs::Statx;
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

/// The file system of pipes without a name: linux/magic.h.
const PIPEFS_MAGIC: i64 = 0x5049_5045;

/// No database of users is larger.
const LARGEST: usize = 16 << 20;

/// Open a file of an image, which may be hostile. `None`: it does not exist. Nothing is opened for reading before
/// it is known to be a regular file: to open a FIFO or a device does something, and what `/proc` shows as a regular
/// file may be the kernel's log, which is gone once it is read.
///
/// Whoever fills the root may mount the file, or its directory. A symbolic link is the image's: it may not lead to
/// another mount.
fn open(cx: &Cx, path: &CStr) -> Result<Option<OwnedFd>, Error> {
    let root = sys::openat(cx, None, c"/", libc::O_PATH | libc::O_DIRECTORY)?;
    let shown = plain(path.to_bytes());
    let mut resolve = libc::RESOLVE_NO_SYMLINKS;
    loop {
        let open = |flags| sys::openat2(cx, root.as_fd(), path, flags, resolve);
        let seen = match open(libc::O_PATH) {
            // A root without it has ids all the same; a dry run may be in another root.
            Err(e) if e.is(Errno::ENOENT) || e.is(Errno::ENOTDIR) => return Ok(None),
            Err(e) if e.is(Errno::ELOOP) && resolve == libc::RESOLVE_NO_SYMLINKS => {
                resolve = libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS;
                continue;
            }
            Err(e) if e.is(Errno::EXDEV) => {
                let what = format_args!("{shown} is a symbolic link to another mount");
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
            false => Err(Error::refusal(format_args!("{shown} was replaced while it was opened"))),
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
        let (uid, gid) = (number(field(2))?, number(field(3))?);
        let member = |list: &[u8]| split(list, b',').any(|name| name == field(0));
        let also = table(&self.group)
            .filter(|group| group.get(3).is_some_and(|list| member(list)))
            .filter_map(|group| number(group.get(2)?))
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
        line(&self.group, 0, name).and_then(|fields| number(fields.get(2)?)).ok_or_else(|| {
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

/// Take supplementary groups, before the ids: afterwards the right to do so is gone.
pub fn set_groups(cx: &Cx, groups: &[u32]) -> Result<(), Error> {
    sys::setgroups(cx, groups).map_err(|error| {
        let setgroups = sys::read_file(cx, None, c"/proc/self/setgroups").unwrap_or_default();
        if error.is(Errno::EPERM) && setgroups.starts_with(b"deny") {
            return error
                .because("setgroups(2) is denied in this user namespace")
                .way_out("leave out --user and --groups, or map a range of ids");
        }
        why(cx, c"/proc/self/gid_map", groups, CAP_SETGID, error)
    })
}

/// Give a user the pipes on the standard streams: to open them again, as `/dev/stdout`, is refused to who does not own
/// them, and nginx, httpd and php-fpm log there. What has a name outside (a FIFO, a file, the caller's terminal) is not
/// given away; a socket cannot be opened at all. With `gid` the group goes too: in a user namespace both
/// must be mapped for another user there to have them next.
pub fn chown_pipes(cx: &Cx, uid: u32, gid: Option<u32>) -> Result<(), Error> {
    let mut given: Vec<Statx> = Vec::new();
    for file in [0, 1, 2].map(sys::standard_fd) {
        let stat = sys::fstatx(cx, file)?;
        if stat.file_type() != libc::S_IFIFO
            || stat.uid == uid
            || given.iter().any(|other| other.same_file(&stat))
            || sys::fstatfs(cx, file)?.f_type != PIPEFS_MAGIC
        {
            continue;
        }
        match sys::fchown(cx, file, Some(uid), gid) {
            // Without CAP_CHOWN, or where the owner is not mapped in this user namespace; or an id that is not mapped,
            // which setresuid(2) says. The pipe works all the same, but for being opened again.
            Err(e) if e.is(Errno::EPERM) || e.is(Errno::EINVAL) => {}
            other => other?,
        }
        given.push(stat);
    }
    Ok(())
}

/// Take a user's ids, the group's first: afterwards the right to do so is gone. With `keep_caps` the
/// permitted capabilities outlast that.
pub fn set_ids(cx: &Cx, user: &User, keep_caps: bool) -> Result<(), Error> {
    if keep_caps {
        sys::prctl_set_keepcaps(cx)?;
    }
    let (signal, parent) = (sys::prctl_get_pdeathsig(cx)?, sys::getppid(cx)?);
    sys::setresgid(cx, user.gid)
        .map_err(|e| why(cx, c"/proc/self/gid_map", &[user.gid], CAP_SETGID, e))?;
    sys::setresuid(cx, user.uid)
        .map_err(|e| why(cx, c"/proc/self/uid_map", &[user.uid], CAP_SETUID, e))?;
    if signal == 0 {
        return Ok(());
    }
    // The change of ids has cleared the signal that ends us with our parent. Did that die meanwhile? A parent that waits has
    // handed on its pidfd, for in a new pid namespace getppid(2) is 0 whether it lives or not.
    sys::prctl_set_pdeathsig(cx, signal)?;
    let died = match cx.parent() {
        Some(parent) => sys::readable(cx, parent)?,
        None => sys::getppid(cx)? != parent,
    };
    if died { sys::exit(cx, FAILED) } else { Ok(()) }
}

/// Why ids were not taken: look whether they are mapped, and whether we may.
fn why(cx: &Cx, map: &CStr, ids: &[u32], cap: u64, error: Error) -> Error {
    let text = sys::read_file(cx, None, map).unwrap_or_default();
    match ids.iter().find(|id| !is_mapped(&text, **id)) {
        Some(id) if error.is(Errno::EINVAL) && !text.is_empty() => {
            error.because(format_args!("the id {id} is not mapped in this user namespace"))
        }
        _ => caps::why(cx, cap, error),
    }
}

/// Does a line of uid_map or gid_map have the id? user_namespaces(7): first, first outside, count.
pub fn is_mapped(map: &[u8], id: u32) -> bool {
    lines(map).any(|line| {
        let mut numbers = split(line, b' ').filter_map(decimal);
        match (numbers.next(), numbers.nth(1)) {
            (Some(first), Some(count)) => (first..first.saturating_add(count)).contains(&id.into()),
            _ => false,
        }
    })
}

/// May another file be given an id that a file has? One without an id in our user namespace is seen as 65534.
pub fn may_own(cx: &Cx, map: &CStr, id: u32) -> Result<bool, Error> {
    const UNMAPPED: u32 = 65534; // linux/highuid.h
    if user_namespace::is_initial(cx) {
        return Ok(true);
    }
    Ok(id != UNMAPPED && is_mapped(&sys::read_file(cx, None, map)?, id))
}

/// Who one is in a user namespace with this map: root, or where that is not mapped the smallest id that
/// is; inside, and outside. `None`: it maps none.
pub fn smallest_mapped(map: &[u8]) -> Option<[u32; 2]> {
    let lines = lines(map).filter_map(|line| {
        let mut numbers = split(line, b' ').filter_map(number);
        Some([numbers.next()?, numbers.next()?])
    });
    lines.min()
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
        _ => number(text).map(Some).ok_or_else(|| no_id(text)),
    }
}

fn no_id(text: &[u8]) -> Error {
    let what = format!("{} is neither an id nor a name", plain(text));
    Error::refusal(what).way_out("an id is a decimal number from 0 to 4294967294")
}

/// An id. The largest is no id: for setresuid(2) it means *leave it*.
fn number(text: &[u8]) -> Option<u32> {
    u32::try_from(decimal(text)?).ok().filter(|id| *id != u32::MAX)
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
    fn an_id_is_mapped_where_a_line_of_the_map_has_it() {
        let map = b"         0       1000          1\n     65536     100000      65536\n";
        for (id, mapped) in [(0, true), (1, false), (65535, false), (65536, true), (131072, false)]
        {
            assert_eq!(is_mapped(map, id), mapped, "{id}");
        }
        assert!(is_mapped(b"0 0 4294967295\n", u32::MAX - 1));
        assert!(!is_mapped(b"", 0));
    }

    #[test]
    fn one_is_root_where_root_is_mapped_and_else_the_smallest_id() {
        for (map, ids) in [
            (
                &b"         1     100000          9\n         0       1000          1\n"[..],
                Some([0, 1000]),
            ),
            (b"      1000      65534          1\n", Some([1000, 65534])),
            (b"         0          0 4294967295\n", Some([0, 0])),
            (b"", None),
        ] {
            assert_eq!(smallest_mapped(map), ids);
        }
    }

    #[test]
    fn an_empty_list_is_no_group() {
        assert_eq!(databases().groups(b"").expect("an empty list"), Vec::<u32>::new());
        assert_eq!(databases().groups(b"wheel,7").expect("a list"), vec![10, 7]);
    }
}
