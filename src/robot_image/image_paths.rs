//! The paths in an image, and the directories that RCC writes to.
//!
//! RCC writes at run time: locks, journals and temporary files in its home, usage marks next to the space. All of these
//! are in directories that belong to the run user and are writable by its group, which is 0. So the image also runs
//! under a user without an entry in a file, as on OpenShift, provided that this user is in group 0.

use super::EnvironmentMode;
use super::files::{attributes, directory};
use super::text;
use crate::common::error::{Error, Result};
use crate::layers::tree::{Attributes, Entry, Owner};
use crate::rcc::{Space, SpaceOwner};
use crate::spec::ImagePath;
use std::collections::BTreeMap;

/// The directories that RCC creates in its home at every start.
const HOME_DIRECTORIES: [&str; 15] = [
    "bin",
    "holotree",
    "hololib",
    "hololib/catalog",
    "hololib/library",
    "hololib/pids",
    "hololib/used",
    "journals",
    "pipcache",
    "pkgs",
    "robots",
    "temp",
    "templates",
    "uvcache",
    "wheels",
];

/// Settings without telemetry: without this file, the first start would write one that consents.
const SETTINGS: &str = "tracking:\n  consent: false\n  identity: 00000000-0000-0000-0000-000000000000\n";

/// Paths, names and the user of a robot's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePaths {
    /// The run user's home. The name of a managed space depends on it.
    pub home: ImagePath,
    /// RCC's home.
    pub product_home: ImagePath,
    /// The directory of the robot.
    pub app: ImagePath,
    /// RCC's `--controller`.
    pub controller: String,
    /// RCC's `--space`.
    pub space: String,
    /// The run user.
    pub user: Owner,
}

impl ImagePaths {
    /// Returns the default paths below `home`.
    ///
    /// # Errors
    /// Returns an error if `home` is the root, or too long.
    pub fn below(home: ImagePath) -> Result<ImagePaths> {
        if home.is_root() {
            return Err(Error::usage("--home /", "the root directory cannot be the home directory"));
        }
        Ok(ImagePaths {
            product_home: home.join(&ImagePath::new(b".robocorp")?)?,
            app: home.join(&ImagePath::new(b"app")?)?,
            home,
            controller: "user".to_owned(),
            space: "user".to_owned(),
            user: Owner { uid: 1000, gid: 0 },
        })
    }

    /// Returns the name of the space that RCC will look for.
    ///
    /// The name of an unmanaged space contains no owner and is the same for every home.
    pub(super) fn space_name(&self, management: Management) -> String {
        let owner = match management {
            Management::Managed => SpaceOwner::Home(self.home.to_string()),
            Management::Unmanaged => SpaceOwner::Unmanaged,
        };
        Space { owner, controller: self.controller.clone(), name: self.space.clone() }.directory()
    }

    /// Returns the attributes of a directory that the run user and its group may write to.
    pub(super) fn writable(&self) -> Attributes {
        attributes(0o775, self.user)
    }

    /// Returns the attributes of a file that the run user and its group may write to.
    pub(super) fn writable_file(&self) -> Attributes {
        attributes(0o664, self.user)
    }

    /// Returns the attributes of directories that several layers need.
    ///
    /// `base` is the directory of the environment's spaces.
    pub(super) fn known_directories(&self, base: Option<&str>) -> Result<BTreeMap<ImagePath, Attributes>> {
        let mut known = BTreeMap::new();
        for path in [&self.home, &self.product_home, &self.app] {
            known.insert(path.clone(), self.writable());
        }
        for name in HOME_DIRECTORIES {
            known.insert(self.in_product_home(name)?, self.writable());
        }
        if let Some(base) = base {
            let base = ImagePath::new(base.as_bytes())?;
            // A parent of the base may be a user's home that others cannot enter; all parents must be accessible.
            let mut above = base.parent();
            while let Some(path) = above.filter(|path| !path.is_root()) {
                above = path.parent();
                known.entry(path).or_insert_with(|| attributes(0o755, Owner::default()));
            }
            known.insert(base, self.writable());
        }
        Ok(known)
    }

    /// Returns the entries of RCC's home before its first start.
    pub(super) fn home_skeleton(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for name in HOME_DIRECTORIES {
            entries.push(directory(self.in_product_home(name)?, self.writable()));
        }
        entries.push(text(self.in_product_home("rcc.yaml")?, SETTINGS, self.writable_file()));
        Ok(entries)
    }

    pub(super) fn in_product_home(&self, name: &str) -> Result<ImagePath> {
        self.product_home.join(&ImagePath::new(name.as_bytes())?)
    }

    pub(super) fn in_hololib(&self, name: &str) -> Result<ImagePath> {
        self.in_product_home(&format!("hololib/{name}"))
    }
}

/// The management of a space: by RCC, or unmanaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Management {
    Managed,
    Unmanaged,
}

/// Returns whether rcc manages the space in this mode.
pub(super) fn management(mode: EnvironmentMode) -> Management {
    match mode {
        EnvironmentMode::Sealed => Management::Unmanaged,
        EnvironmentMode::Ready | EnvironmentMode::Compact | EnvironmentMode::Direct => Management::Managed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_where_rcc_looks_for_them() {
        let places = ImagePaths::below(ImagePath::new(b"/home/robot").unwrap()).unwrap();
        assert_eq!(places.space_name(Management::Managed), "dc4d952_5a1fac3_9fcd2534");
        assert_eq!(places.space_name(Management::Unmanaged), "UNMNGED_5a1fac3_9fcd2534");
        assert_eq!(places.app.to_string(), "/home/robot/app");
    }

    #[test]
    fn the_way_to_the_base_is_open_and_the_base_writable() {
        let places = ImagePaths::below(ImagePath::new(b"/home/robot").unwrap()).unwrap();
        let known = places.known_directories(Some("/root/.robocorp/holotree")).unwrap();
        let mode = |path: &str| {
            (
                known[&ImagePath::new(path.as_bytes()).unwrap()].mode,
                known[&ImagePath::new(path.as_bytes()).unwrap()].uid,
            )
        };
        assert_eq!(mode("/root"), (0o755, 0));
        assert_eq!(mode("/root/.robocorp/holotree"), (0o775, 1000));
        let own = places.known_directories(Some("/home/robot/.robocorp/holotree")).unwrap();
        assert_eq!(own[&places.home].uid, 1000);
    }
}
