//! The layers of a robot's image, as requests for a build.

use super::{LayerEntries, RobotImage};
use crate::build::{LayerSpec, Source};
use crate::common::error::Result;
use crate::common::time::Timestamp;
use crate::layers::tree::{Access, Owner, Rules};
use crate::spec::ImagePath;
use std::path::Path;

impl RobotImage {
    /// Returns all layers of the image, the robot's own last. `rules` are those of [`RobotImage::robot_rules`], perhaps with
    /// further excluded files.
    ///
    /// # Errors
    /// Returns an error if rcc or the environment cannot be read, a name in them cannot occur in an image, or the directory
    /// for results would be outside of the run user's home.
    pub fn layer_specs(&self, rules: Rules) -> Result<Vec<LayerSpec>> {
        let mut known_directories = self.known_directories()?;
        // The layers are the same on every base, so they describe their directories.
        let plain = Rules::default().mtime(Timestamp::RCC);
        let programs = plain.directory(Access { mode: 0o755, owner: Owner::default() });
        known_directories.insert(ImagePath::new(b"usr/local/bin")?, programs);
        let entries = |name: &str, entries: Box<LayerEntries>| Source::entries(name, entries).rules(plain.clone());
        let mut specs = Vec::new();
        for layer in self.layers()? {
            let spec = LayerSpec::new(&layer.name)
                .created_by(format!("ocibuild: {}", layer.name))
                .source(entries(&layer.name, layer.entries))
                .known_directories(known_directories.clone())
                .recipe(layer.recipe)
                .group(self.group())
                .roots(layer.roots);
            specs.push(spec);
        }
        let robot_entries = self.robot_entries()?;
        let add_entries: Box<LayerEntries> =
            Box::new(move |tree| robot_entries.into_iter().try_for_each(|entry| tree.add(entry)));
        let own = Source::directory(self.directory.clone(), self.places.app.clone())
            .named(format!("robot {}", self.robot.file))
            .rules(rules);
        let spec = LayerSpec::new(&own.name)
            .created_by("ocibuild: robot")
            .source(own)
            .source(entries("robot", add_entries))
            .known_directories(known_directories);
        specs.push(spec);
        Ok(specs)
    }

    /// Returns the robot's files that become executable in the image, although they are not on this machine.
    pub fn made_executable<'r>(&'r self, rules: &'r Rules) -> impl Iterator<Item = &'r Path> {
        rules.changes.programs.iter().map(|path| &**path).filter(|path| !self.is_executable(path))
    }
}
