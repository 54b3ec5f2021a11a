//! Locations of RCC's files for one user.

use crate::common::error::Result;
use crate::common::root::PathStatus;
use crate::rcc::SpaceOwner;
use std::path::{Path, PathBuf};

/// The two brands of RCC, which use different locations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Product {
    /// The default.
    #[default]
    Robocorp,
    /// With `rcc --sema4ai`.
    Sema4ai,
}

impl Product {
    /// Returns the name of the environment variable that sets the product home.
    pub fn home_variable(self) -> &'static str {
        match self {
            Product::Robocorp => "ROBOCORP_HOME",
            Product::Sema4ai => "SEMA4AI_HOME",
        }
    }

    /// Returns the product home of a user for whom that variable is not set.
    pub fn default_home(self, user_home: &Path) -> PathBuf {
        user_home.join(match self {
            Product::Robocorp => ".robocorp",
            Product::Sema4ai => ".sema4ai",
        })
    }

    /// Returns the directory of the shared Holotree, the same on every machine.
    pub fn shared_directory(self) -> &'static Path {
        Path::new(match self {
            Product::Robocorp => "/opt/robocorp/ht",
            Product::Sema4ai => "/opt/sema4ai/ht",
        })
    }
}

/// The users of a Holotree: one user, or all users of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Below the user's product home.
    Private,
    /// Below [`Product::shared_directory`].
    Shared,
}

/// The location of a user's Holotree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holotree {
    /// Whether the Holotree is shared.
    pub sharing: Sharing,
    /// The hololib: catalogs and library.
    pub library: PathBuf,
    /// The directory in which spaces are recorded.
    pub spaces: PathBuf,
}

impl Holotree {
    /// Returns the Holotree that RCC uses for `owner` with this product home.
    ///
    /// It is the shared one if the owner's mark exists in it. A user who may not look there does not use it.
    ///
    /// # Errors
    /// Fails if the system does not say whether there is a mark, for another reason.
    pub fn of(product_home: &Path, shared_directory: &Path, owner: &SpaceOwner) -> Result<Holotree> {
        let shared = Holotree {
            sharing: Sharing::Shared,
            library: shared_directory.join("lib"),
            spaces: shared_directory.to_owned(),
        };
        let mark = shared.library.join("catalog/init").join(owner.id());
        match PathStatus::of(&mark) {
            Ok(status) if status.is_file() => return Ok(shared),
            Err(error) if !error.is_refused_by_permissions() => return Err(error),
            _ => {}
        }
        Ok(Holotree {
            sharing: Sharing::Private,
            library: product_home.join("hololib"),
            spaces: product_home.join("holotree"),
        })
    }
}

/// Returns the conda channel in this product home, if it exists. RCC puts it before all others.
///
/// # Errors
/// Returns an error if its path is not Unicode, which cannot occur in a blueprint, or if the system does not say whether it
/// exists.
pub fn local_channel(product_home: &Path) -> Result<Option<String>> {
    let channel = product_home.join("channel");
    if !PathStatus::of(&channel.join("channeldata.json"))?.is_file() {
        return Ok(None);
    }
    match channel.to_str() {
        Some(path) => Ok(Some(path.to_owned())),
        None => Err(crate::common::error::Error::invalid(channel.display().to_string(), "the name is not Unicode")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::root::Root;

    #[test]
    fn the_shared_holotree_is_used_once_the_owner_has_a_mark_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        let shared = directory.path().join("ht");
        let home = directory.path().join("home");
        let owner = SpaceOwner::Home("/home/robot".to_owned());
        assert_eq!(Holotree::of(&home, &shared, &owner).unwrap().library, home.join("hololib"));
        root.dir().create_dir_all("ht/lib/catalog/init").unwrap();
        root.dir().write("ht/lib/catalog/init/dc4d952", b"").unwrap();
        let found = Holotree::of(&home, &shared, &owner).unwrap();
        assert_eq!((found.sharing, found.library, found.spaces), (Sharing::Shared, shared.join("lib"), shared.clone()));
        let other = SpaceOwner::Home("/home/other".to_owned());
        assert_eq!(Holotree::of(&home, &shared, &other).unwrap().sharing, Sharing::Private);
    }

    #[test]
    fn a_channel_counts_once_it_has_data() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        root.dir().create_dir("channel").unwrap();
        assert_eq!(local_channel(directory.path()).unwrap(), None);
        root.dir().write("channel/channeldata.json", b"{}").unwrap();
        let expected = directory.path().join("channel");
        assert_eq!(local_channel(directory.path()).unwrap().as_deref(), expected.to_str());
    }
}
