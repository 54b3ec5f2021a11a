//! The names that RCC derives by hashing: users, recorded stages, spaces.
//!
//! These names occur in paths inside files, so names that replace one another have the same length.

use super::siphash;

/// The length in bytes of the names of spaces and recorded stages.
///
/// Stages have had this length since RCC 11.10.
pub const NAME_LENGTH: usize = 24;

/// The user id with `rcc --unmanaged`, the same for all users.
const UNMANAGED: &str = "UNMNGED";

/// The user id that RCC falls back to if `HOME` is not set.
const HOMELESS: &str = "badcafe";

/// The owner of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpaceOwner {
    /// The user with this `HOME`, exactly as the variable holds it.
    Home(String),
    /// A process without `HOME`.
    Homeless,
    /// No owner: `rcc run --unmanaged` neither checks nor repairs such a space.
    Unmanaged,
}

impl SpaceOwner {
    /// Returns the seven characters that identify the owner.
    pub fn id(&self) -> String {
        match self {
            SpaceOwner::Home(home) => siphash::user(home.as_bytes()).chars().take(7).collect(),
            SpaceOwner::Homeless => HOMELESS.to_owned(),
            SpaceOwner::Unmanaged => UNMANAGED.to_owned(),
        }
    }
}

/// A directory where RCC restores an environment for one user, controller and purpose.
///
/// ```
/// use ocibuild::rcc::{SpaceOwner, Space};
///
/// let space = Space { owner: SpaceOwner::Home("/home/robot".into()), controller: "user".into(), name: "user".into() };
/// assert_eq!(space.directory(), "dc4d952_5a1fac3_9fcd2534");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The owner of the space.
    pub owner: SpaceOwner,
    /// The value of `rcc --controller`; `user` if that is not given.
    pub controller: String,
    /// The value of `rcc --space`; `user` if that is not given.
    pub name: String,
}

impl Space {
    /// Returns the controller as RCC writes it into a space's `.meta` file: `rcc.user`.
    pub fn controller_identity(&self) -> String {
        format!("rcc.{}", self.controller).to_lowercase()
    }

    /// Returns the name of the space's directory, [`NAME_LENGTH`] bytes long.
    pub fn directory(&self) -> String {
        let controller = siphash::name(self.controller_identity().as_bytes());
        let name = siphash::name(self.name.as_bytes());
        format!("{}_{}_{}", self.owner.id(), &controller[..7], &name[..8])
    }
}

/// Returns the name of the directory in which RCC records environments for `owner`.
///
/// `os` and `architecture` are Go's names of the platform: `linux`, `amd64`. The name is [`NAME_LENGTH`] bytes long,
/// except for a user id that begins with many zeros.
pub fn stage_directory(owner: &SpaceOwner, os: &str, architecture: &str) -> String {
    let platform = siphash::name(format!("{os} {architecture}").as_bytes());
    format!("h{}_{}t", owner.id(), &platform[..14])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(path: &str) -> SpaceOwner {
        SpaceOwner::Home(path.to_owned())
    }

    #[test]
    fn user_ids_equal_those_of_rcc() {
        for (path, expected) in [
            ("/root", "720c7a8"),
            ("/home/robot", "dc4d952"),
            ("/home/user", "59acff1"),
            ("/home/runner", "62fb83f"),
            ("/home/nonroot", "4a22ad4"),
            ("/", "cdb17fc"),
            // The full hash begins with a zero, which RCC does not print.
            ("/home/u41", "7ab4c65"),
        ] {
            assert_eq!(home(path).id(), expected, "{path}");
        }
        assert_eq!(SpaceOwner::Homeless.id(), "badcafe");
    }

    #[test]
    fn space_names_equal_those_of_rcc() {
        for (name, expected) in [
            ("user", "dc4d952_5a1fac3_9fcd2534"),
            ("other", "dc4d952_5a1fac3_086ad15f"),
            ("oci", "dc4d952_5a1fac3_a1fb417c"),
            ("svc", "dc4d952_5a1fac3_4fa2904d"),
            ("tips", "dc4d952_5a1fac3_2daaa295"),
        ] {
            let mut space = Space { owner: home("/home/robot"), controller: "User".to_owned(), name: name.to_owned() };
            assert_eq!(space.directory(), expected, "{name}");
            space.owner = SpaceOwner::Unmanaged;
            assert_eq!(space.directory(), expected.replace("dc4d952", "UNMNGED"), "{name}");
            assert_eq!(space.directory().len(), NAME_LENGTH);
        }
    }

    #[test]
    fn stage_names_equal_those_of_rcc() {
        assert_eq!(stage_directory(&home("/home/user"), "linux", "amd64"), "h59acff1_493f813dad24d3t");
        assert_eq!(stage_directory(&home("/home/user"), "linux", "arm64"), "h59acff1_eb558489e116a1t");
    }
}
