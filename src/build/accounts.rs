//! Users and groups that are added to `/etc/passwd` and `/etc/group` of the layers below.
//!
//! Every line that is there keeps its bytes and its place; new lines come after them. A file that is missing is made.

use super::placement::{kept_attributes, unknown};
use super::{NewGroup, NewUser, Source, SourceContent};
use crate::common::error::{Error, Result};
use crate::common::progress::{Progress, warn};
use crate::layers::rootfs::{Account, Resolved, Rootfs, accounts, content_of};
use crate::layers::tree::{Attributes, Content, Entry, Kind, TreeBuilder};
use crate::spec::ImagePath;

/// Returns whether all of `sources` are users and groups.
pub(super) fn are_all(sources: &[Source]) -> bool {
    !sources.is_empty() && sources.iter().all(is_account)
}

fn is_account(source: &Source) -> bool {
    matches!(source.content, SourceContent::User(_) | SourceContent::Group(_))
}

/// Adds the users and groups among `sources`, and returns the other sources.
///
/// # Errors
/// Fails if a name or a number belongs to another user or group, or the files of the layers below cannot be read.
pub(super) fn add_to(
    sources: Vec<Source>,
    builder: &mut TreeBuilder,
    rootfs: &Rootfs<'_>,
    progress: &dyn Progress,
) -> Result<Vec<Source>> {
    let (own, others): (Vec<_>, Vec<_>) = sources.into_iter().partition(is_account);
    let Some(first) = own.first() else { return Ok(others) };
    let mtime = first.rules.mtime.seconds();
    let mut users = AccountFile::read(b"etc/passwd", rootfs, mtime)?;
    let mut groups = AccountFile::read(b"etc/group", rootfs, mtime)?;
    for source in &own {
        builder.begin_source(&source.name);
        match &source.content {
            SourceContent::User(user) => {
                let gid = user.add_to(&mut users, &mut groups)?;
                user.add_home(gid, mtime, builder, rootfs, progress)?;
            }
            SourceContent::Group(group) => group.add_to(&mut groups)?,
            _ => {}
        }
    }
    users.add_if_changed(builder)?;
    groups.add_if_changed(builder)?;
    Ok(others)
}

/// One of the two files.
struct AccountFile {
    path: ImagePath,
    attributes: Attributes,
    content: Vec<u8>,
    is_changed: bool,
}

impl AccountFile {
    /// Reads the file that the layers below have. A link to it is followed.
    fn read(path: &[u8], rootfs: &Rootfs<'_>, mtime: i64) -> Result<Self> {
        let path = ImagePath::new(path)?;
        let refuse = |reason: String| Err(Error::invalid(path.to_string(), reason));
        let (real, content, attributes) = match rootfs.resolve(&path)? {
            Resolved::Absent(real) => {
                (real, Vec::new(), Attributes { mode: 0o644, uid: 0, gid: 0, mtime, xattrs: None })
            }
            Resolved::Node(real, below) => match content_of(&below) {
                Some(content) => (real, content, kept_attributes(&below, mtime)),
                None => return refuse("cannot be edited: not a file of at most 1 MiB at this place".to_owned()),
            },
            Resolved::Unseen(at, unseen) => return Err(unknown(&at, &unseen)),
            Resolved::NoDirectory(at) => return refuse(format!("{at} is not a directory")),
            Resolved::Circle => return refuse("is a symbolic link loop in a layer below".to_owned()),
        };
        Ok(AccountFile { path: real, attributes, content, is_changed: false })
    }

    fn named(&self, name: &str) -> Option<Account<'_>> {
        accounts(&self.content).find(|account| account.name() == name.as_bytes())
    }

    fn numbered(&self, id: u32) -> Option<Account<'_>> {
        accounts(&self.content).find(|account| account.id() == Some(id))
    }

    fn append(&mut self, line: &str) {
        if self.content.last().is_some_and(|byte| *byte != b'\n') {
            self.content.push(b'\n');
        }
        self.content.extend_from_slice(line.as_bytes());
        self.content.push(b'\n');
        self.is_changed = true;
    }

    fn add_if_changed(self, builder: &mut TreeBuilder) -> Result<()> {
        let AccountFile { path, attributes, content, is_changed } = self;
        if !is_changed {
            return Ok(());
        }
        let kind = Kind::File { size: content.len() as u64, content: Content::Bytes(content.into()) };
        builder.add(Entry { path, kind, attributes })
    }
}

impl NewUser {
    /// Adds the user, and a group with this number if it is missing. Returns the number of the group.
    fn add_to(&self, users: &mut AccountFile, groups: &mut AccountFile) -> Result<u32> {
        let NewUser { name, uid, gid: given, home } = self;
        let object = || format!("user {name}");
        let gid = given.unwrap_or(*uid);
        if let Some(known) = users.named(name) {
            let is_same = known.id() == Some(*uid)
                && known.group() == Some(gid)
                && known.home().is_some_and(|known| ImagePath::new(known).is_ok_and(|known| known == *home));
            if is_same {
                return Ok(gid);
            }
            return Err(Error::invalid(object(), format!("is another user in the image: {known}")));
        }
        if let Some(other) = users.numbered(*uid) {
            let reason = format!("the number {uid} belongs to another user of the image: {other}");
            return Err(Error::invalid(object(), reason).hint("another UID, or --user with the user that is there"));
        }
        match (groups.numbered(gid), given) {
            (Some(_), Some(_)) => {}
            (Some(group), None) if group.name() == name.as_bytes() => {}
            (Some(group), None) => {
                let reason = format!("the number {gid} belongs to a group of the image: {group}");
                return Err(Error::invalid(object(), reason).hint(format!("--add-user {name}:{uid}:{gid} joins it")));
            }
            (None, _) => NewGroup { name: name.clone(), gid }.add_to(groups)?,
        }
        users.append(&format!("{name}:*:{uid}:{gid}::{home}:/bin/sh"));
        Ok(gid)
    }

    /// Makes the home if the layers below do not have it.
    fn add_home(
        &self,
        gid: u32,
        mtime: i64,
        builder: &mut TreeBuilder,
        rootfs: &Rootfs<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let NewUser { name, uid, gid: _, home } = self;
        let object = home.to_string();
        match rootfs.resolve(home)? {
            Resolved::Node(_, below) if below.node.kind.is_directory() => {
                if below.node.uid != *uid && !home.is_root() {
                    let reason =
                        format!("is there and stays unchanged: the home of {name} belongs to {}", below.node.uid);
                    warn(progress, &object, &format!("{reason} (--mkdir {object},chown={uid}:{gid})"));
                }
                Ok(())
            }
            Resolved::Absent(_) | Resolved::Unseen(..) => {
                builder.add_destination(home, Attributes { mode: 0o755, uid: *uid, gid, mtime, xattrs: None })
            }
            Resolved::Node(..) | Resolved::NoDirectory(_) | Resolved::Circle => {
                Err(Error::invalid(object, format!("the home of {name} is not a directory in the layers below")))
            }
        }
    }
}

impl NewGroup {
    fn add_to(&self, groups: &mut AccountFile) -> Result<()> {
        let NewGroup { name, gid } = self;
        let object = || format!("group {name}");
        if let Some(known) = groups.named(name) {
            return match known.id() == Some(*gid) {
                true => Ok(()),
                false => Err(Error::invalid(object(), format!("is another group in the image: {known}"))),
            };
        }
        if let Some(other) = groups.numbered(*gid) {
            let reason = format!("the number {gid} belongs to another group of the image: {other}");
            return Err(Error::invalid(object(), reason));
        }
        groups.append(&format!("{name}:*:{gid}:"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> AccountFile {
        let attributes = Attributes { mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs: None };
        AccountFile { path: ImagePath::root(), attributes, content: content.to_vec(), is_changed: false }
    }

    /// The files after `user` was added to those of a small base, or the error.
    fn added(user: &str) -> Result<(String, String)> {
        let mut users = file(b"root:x:0:0:root:/root:/bin/sh\n#app:x:7:7::/:\nnode:x:1000:1000::/home/node:/bin/sh");
        let mut groups = file(b"root:x:0:\nshadow:x:42:\nnode:x:1000:\n");
        user.parse::<NewUser>()?.add_to(&mut users, &mut groups)?;
        let new = |file: AccountFile| String::from_utf8(file.content).unwrap().lines().skip(3).collect::<String>();
        Ok((new(users), new(groups)))
    }

    #[test]
    fn a_user_gets_a_line_and_a_group_of_its_own() {
        let lines = |user: &str, group: &str| (user.to_owned(), group.to_owned());
        assert_eq!(added("app:7").unwrap(), lines("app:*:7:7::/home/app:/bin/sh", "app:*:7:"));
        assert_eq!(added("app:42:1000:/srv").unwrap(), lines("app:*:42:1000::/srv:/bin/sh", ""));
        assert_eq!(added("app:7:8").unwrap(), lines("app:*:7:8::/home/app:/bin/sh", "app:*:8:"));
        assert_eq!(added("node:1000:1000:/home/node/").unwrap(), lines("", ""), "the same user again");
        assert_eq!(added("node:1000").unwrap(), lines("", ""));
    }

    #[test]
    fn names_and_numbers_of_others_are_refused() {
        for (user, reason) in [
            ("node:1001", "user node: is another user in the image: node:x:1000:1000::/home/node:/bin/sh"),
            ("node:1000:0", "is another user"),
            ("node:1000:1000:/srv", "is another user"),
            ("app:1000", "the number 1000 belongs to another user of the image: node"),
            ("app:42", "the number 42 belongs to a group of the image: shadow"),
            ("shadow:43", "group shadow: is another group in the image: shadow:x:42:"),
        ] {
            let error = added(user).unwrap_err().to_string();
            assert!(error.contains(reason), "{user}: {error}");
        }
    }
}
