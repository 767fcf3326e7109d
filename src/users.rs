//! Users and groups of the root that we are in: passwd(5), group(5).

use crate::error::Error;
use crate::show::plain;
use crate::sys::{self, Cx};

/// What the databases say of one user.
#[derive(Debug, Default, PartialEq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// The home directory; empty where there is no such user.
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

impl Databases {
    /// Read both.
    pub fn read(cx: &Cx) -> Databases {
        let read = |path| sys::read_file(cx, None, path).unwrap_or_default();
        Databases { passwd: read(c"/etc/passwd"), group: read(c"/etc/group") }
    }

    /// `USER[:GROUP]`, each a name or a number. A number that is nobody's is a user in group 0, as
    /// docker has it; with GROUP there are no other groups.
    pub fn user(&self, text: &[u8]) -> Result<User, Error> {
        let (name, group) = match text.iter().position(|b| *b == b':') {
            Some(colon) => (text.get(..colon), text.get(colon + 1..)),
            None => (Some(text), None),
        };
        let name = name.unwrap_or_default();
        // A name may be all digits: it comes first, as for chown(1).
        let line = line(&self.passwd, 0, name).or_else(|| line(&self.passwd, 2, decimal(name)?));
        let mut user = match (line, number(name)) {
            (Some(fields), _) => self.known(&fields),
            (None, Some(uid)) => User { uid, groups: vec![0], ..User::default() },
            (None, None) => {
                let what = format!("there is no user {} in /etc/passwd", plain(name));
                return Err(Error::refusal(what).way_out("give the number instead"));
            }
        };
        if let Some(group) = group {
            user.gid = self.group(group)?;
            user.groups = vec![user.gid];
        }
        Ok(user)
    }

    /// The user of a line of passwd.
    fn known(&self, fields: &[&[u8]]) -> User {
        let field = |i: usize| fields.get(i).copied().unwrap_or_default();
        let id = |i: usize| number(field(i)).unwrap_or(0);
        let member = |list: &[u8]| list.split(|b| *b == b',').any(|name| name == field(0));
        let also = lines(&self.group)
            .filter(|group| group.get(3).is_some_and(|list| member(list)))
            .filter_map(|group| number(group.get(2)?))
            .filter(|gid| *gid != id(3));
        let groups = [id(3)].into_iter().chain(also).collect();
        User { uid: id(2), gid: id(3), home: field(5).to_vec(), groups }
    }

    /// A group, by name or number.
    pub fn group(&self, name: &[u8]) -> Result<u32, Error> {
        let named = line(&self.group, 0, name).and_then(|fields| number(fields.get(2)?));
        named.or_else(|| number(name)).ok_or_else(|| {
            let what = format!("there is no group {} in /etc/group", plain(name));
            Error::refusal(what).way_out("give the number instead")
        })
    }

    /// Groups by name or number, with commas between them. Nothing is none.
    pub fn groups(&self, list: &[u8]) -> Result<Vec<u32>, Error> {
        let names = list.split(|b| *b == b',').filter(|name| !name.is_empty());
        names.map(|name| self.group(name)).collect()
    }
}

/// The fields of each line.
fn lines(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    text.split(|b| *b == b'\n').map(|line| line.split(|b| *b == b':').collect())
}

/// The first line whose field `index` is `value`.
fn line<'a>(text: &'a [u8], index: usize, value: &[u8]) -> Option<Vec<&'a [u8]>> {
    lines(text).find(|fields| fields.len() > 2 && fields.get(index) == Some(&value))
}

/// An id. The largest is no id: for setresuid(2) it means *leave it*.
fn number(text: &[u8]) -> Option<u32> {
    let digits = decimal(text)?;
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|id| *id != u32::MAX)
}

/// The text if it is all digits.
fn decimal(text: &[u8]) -> Option<&[u8]> {
    (!text.is_empty() && text.iter().all(u8::is_ascii_digit)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn databases() -> Databases {
        Databases {
            passwd: b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:100::/srv/app:/bin/sh\nbroken\n"
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
    fn a_group_that_is_given_is_the_only_one() {
        let user = databases().user(b"app:wheel").expect("both are there");
        assert_eq!((user.uid, user.gid, user.groups), (1000, 10, vec![10]));
    }

    #[test]
    fn a_number_that_is_nobodys_is_in_group_0() {
        let user = databases().user(b"4242").expect("a number needs no entry");
        assert_eq!((user.uid, user.gid, user.home), (4242, 0, vec![]));
    }

    #[test]
    fn refuses_names_that_are_not_there_and_the_id_that_is_none() {
        assert!(databases().user(b"nobody").is_err());
        assert!(databases().user(b"app:nogroup").is_err());
        assert!(databases().user(b"4294967295").is_err());
        assert!(databases().user(b"").is_err());
    }

    #[test]
    fn an_empty_list_is_no_group() {
        assert_eq!(databases().groups(b"").expect("an empty list"), Vec::<u32>::new());
        assert_eq!(databases().groups(b"wheel,7").expect("a list"), vec![10, 7]);
    }
}
